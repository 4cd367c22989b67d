// Package cluster brings the files of a PostgreSQL database cluster forward along its
// write-ahead log, without PostgreSQL: from a base backup to any position behind it, ending
// with a data directory that the server opens as if it had been shut down cleanly
// there. Pages are redone by package redo; this package redoes what the log says about
// everything else: the status of transactions, relations that come and go, databases,
// prepared transactions, the counters that the next checkpoint has to carry.
//
// Source: the redo functions and the file layouts of PostgreSQL 15.
package cluster

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Cluster is a data directory under replay. It is not safe for concurrent use, and
// nobody else may use the directory.
type Cluster struct {
	dir     string
	log     *slog.Logger
	control control
	redo    redo.Redo
	pages   pageCache
	missing map[forkPage]wal.Position // pages that records change but that don't exist: their files must go later
	Counters
	records uint64
}

// Counters are what a checkpoint record carries.
type Counters struct {
	Redo                     wal.Position // of the last checkpoint seen
	Timeline, PrevTimeline   wal.Timeline
	FullPageWrites           bool
	NextXID                  uint64 // epoch and number
	NextOID                  uint32
	NextMulti, NextOffset    uint32
	OldestXID, OldestXIDDB   uint32
	OldestMulti, OldestMulDB uint32
	Time                     int64 // Unix seconds
	OldestCommitTs           uint32
	NewestCommitTs           uint32
	OldestActiveXID          uint32
}

// Open takes a data directory as a base backup has it, with its pg_control.
func Open(dir string, logger *slog.Logger) (*Cluster, error) {
	if logger == nil {
		logger = slog.Default()
	}
	c := &Cluster{dir: dir, log: logger, missing: map[forkPage]wal.Position{}}
	if err := c.control.read(dir); err != nil {
		return nil, err
	}
	c.Counters = c.control.checkpoint()
	c.redo.HintBitsLogged = c.control.hintBitsLogged()
	c.pages.init(dir, c.control.checksums())
	return c, nil
}

// SystemID returns the cluster's identifier.
func (c *Cluster) SystemID() uint64 { return c.control.systemID() }

// SegmentBytes returns the length of its WAL segments.
func (c *Cluster) SegmentBytes() uint32 { return c.control.segmentBytes() }

// Records returns how many records were applied.
func (c *Cluster) Records() uint64 { return c.records }

// Apply makes the changes of the next record. Records must come in order, without a gap.
func (c *Cluster) Apply(r *wal.Record) error {
	c.records++
	if r.XID >= wal.FirstNormalXID {
		c.advanceXID(r.XID)
	}
	if err := c.applyBlocks(r); err != nil {
		return err
	}
	h := managers[r.Manager]
	if h == nil {
		if r.Manager >= wal.ManagerCustomMin {
			return fmt.Errorf("cluster: record %v: %w: resource manager %v belongs to an extension", r.Start, logcore.ErrUnsupportedVersion, r.Manager)
		}
		return nil
	}
	f := fields{b: r.Data}
	err := h(c, r, &f)
	if err == nil && f.short {
		err = fmt.Errorf("%w: the record is too short", logcore.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("cluster: record %v (%v, operation %02X): %w", r.Start, r.Manager, r.Op(), err)
	}
	return nil
}

// managers redo what is no block of the record.
var managers = map[wal.Manager]func(*Cluster, *wal.Record, *fields) error{
	wal.ManagerXLog:        (*Cluster).applyXLog,
	wal.ManagerTransaction: (*Cluster).applyTransaction,
	wal.ManagerStorage:     (*Cluster).applyStorage,
	wal.ManagerCLOG:        (*Cluster).applyCLOG,
	wal.ManagerDatabase:    (*Cluster).applyDatabase,
	wal.ManagerTablespace:  (*Cluster).applyTablespace,
	wal.ManagerMultiXact:   (*Cluster).applyMultiXact,
	wal.ManagerRelMap:      (*Cluster).applyRelMap,
	wal.ManagerStandby:     (*Cluster).applyStandby,
	wal.ManagerCommitTs:    (*Cluster).applyCommitTs,
}

// applyBlocks redoes the record's blocks, and clears what it clears in visibility maps.
func (c *Cluster) applyBlocks(r *wal.Record) error {
	cleared, n := redo.VisibilityCleared(r)
	for _, v := range cleared[:n] {
		p, err := c.pages.get(forkPage{v.Relation, wal.ForkVM, v.MapPage}, false)
		if err != nil {
			return err
		}
		if p != nil {
			v.Apply(p.data)
			p.dirty = true
		}
	}
	for i := range r.Blocks {
		b := &r.Blocks[i]
		if b.Fork == wal.ForkFSM {
			continue // rebuilt by the server: see Finish
		}
		key := forkPage{b.Relation, b.Fork, b.Number}
		p, err := c.pages.get(key, b.WillInit || b.HasImage || b.Fork == wal.ForkVM)
		if err != nil {
			return err
		}
		if p == nil {
			c.missing[key] = r.Start
			continue
		}
		outcome, err := c.redo.Block(r, b, p.data)
		if err != nil {
			return err
		}
		p.dirty = p.dirty || outcome == redo.Redone || outcome == redo.Restored
	}
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

// Flush writes all changed pages to their files.
func (c *Cluster) Flush() error { return c.pages.flush() }

// Close lets go of the files without writing what was changed.
func (c *Cluster) Close() error { return c.pages.close() }

var errShort = errors.New("too short")
