// Package cluster brings the files of a PostgreSQL database cluster forward along its
// write-ahead log, without PostgreSQL: from a base backup, or from what the page server has, to any position behind it, ending
// with a data directory that the server opens as if it had been shut down cleanly
// there. What a record changes says package effect, pages are redone by package redo; this package does it to files.
package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Cluster is a data directory under replay. It is not safe for concurrent use, and
// nobody else may use the directory.
type Cluster struct {
	dir     string
	log     *slog.Logger
	control effect.Control
	effects effect.Interpreter
	pages   pageCache
	missing map[forkPage]wal.Position // pages that records change but that don't exist: their files must go later
	records uint64
}

// Open takes a data directory as a base backup has it, with its pg_control.
func Open(dir string, logger *slog.Logger) (*Cluster, error) {
	if logger == nil {
		logger = slog.Default()
	}
	c := &Cluster{dir: dir, log: logger, missing: map[forkPage]wal.Position{}}
	b, err := os.ReadFile(filepath.Join(dir, effect.ControlPath))
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if c.control, err = effect.ParseControl(b); err != nil {
		return nil, fmt.Errorf("cluster: %s: %w", dir, err)
	}
	c.effects = effect.Interpreter{Counters: c.control.Counters(), Settings: c.control.Settings()}
	c.pages.init(dir, c.control.Checksums())
	return c, nil
}

// SystemID returns the cluster's identifier.
func (c *Cluster) SystemID() uint64 { return c.control.SystemID() }

// SegmentBytes returns the length of its WAL segments.
func (c *Cluster) SegmentBytes() uint32 { return c.control.SegmentBytes() }

// Records returns how many records were applied.
func (c *Cluster) Records() uint64 { return c.records }

// apply makes the changes of the next record; when the files have them it only counts.
func (c *Cluster) apply(r *wal.Record, files bool) error {
	c.effects.Sink = effect.Discard{}
	if files {
		c.effects.Sink = c
		c.records++
	}
	if err := c.effects.Apply(r); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Block implements effect.Sink.
func (c *Cluster) Block(r *wal.Record, b *wal.Block) error {
	key := forkPage{b.Relation, b.Fork, b.Number}
	p, err := c.pages.get(key, b.WillInit || b.HasImage || b.Fork == wal.ForkVM)
	if err != nil {
		return err
	}
	if p == nil {
		c.missing[key] = r.Start
		return nil
	}
	outcome, err := redo.Redo{HintBitsLogged: c.effects.HintBitsLogged}.Block(r, b, p.data)
	p.dirty = p.dirty || outcome == redo.Redone || outcome == redo.Restored
	return err
}

// EditMap implements effect.Sink.
func (c *Cluster) EditMap(rel wal.Relation, mapPage uint32, e page.Edit) error {
	p, err := c.pages.get(forkPage{rel, wal.ForkVM, mapPage}, false)
	if err != nil || p == nil {
		return err
	}
	p.dirty = true
	return e.Apply(p.data)
}

// Parameters implements effect.Sink.
func (c *Cluster) Parameters(b []byte) error {
	c.control.SetParameters(b)
	return nil
}

// checkMissing says which page a record changed that was not there and whose file did not go
// afterwards, nil when there is none.
func (c *Cluster) checkMissing() error {
	for k, at := range c.missing {
		return fmt.Errorf("cluster: %w: record %v changes page %d of %s, which is neither in the base backup nor made by the log: %d such pages",
			logcore.ErrCorrupt, at, k.page, k.relation.Path(k.fork), len(c.missing))
	}
	return nil
}

// forgetMissing drops what is said of pages that go.
func (c *Cluster) forgetMissing(gone func(forkPage) bool) {
	for k := range c.missing {
		if gone(k) {
			delete(c.missing, k)
		}
	}
}

// Flush writes all changed pages to their files.
func (c *Cluster) Flush() error { return errors.Join(c.pages.flush(), c.pages.closeFiles()) }

// Close lets go of the files without writing what was changed.
func (c *Cluster) Close() error { return c.pages.close() }
