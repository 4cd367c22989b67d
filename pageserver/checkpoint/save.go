package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/tiering/bucket"
)

// now is the clock; the tests have their own.
var now = time.Now

// Content is a store at one moment.
type Content struct {
	StoreVersion uint32 // not 0
	// Stripes are those whose pages the store has had in full until the files were as they
	// are. Empty: all.
	Stripes stripemap.Set
	Logs    []Log
	// Dir holds the store's files as Pebble's Checkpoint made them, as FS shows them.
	Dir string
	FS  vfs.FS
	// Known are tables of this store that are stored already, by name: a name stands for
	// one content for as long as the store's directory lives.
	Known map[string]Table
	// Check proves that a table is sound before it is stored, nil does not.
	Check func(name string, content []byte) error
	// Warm is what a new page server should fetch first, in order.
	Warm []Read
}

// Read is a block of a table, by name.
type Read struct {
	Name  string
	Block int
}

// Save stores what a store has and the newest manifest has not, and commits a manifest.
// On a nil return the checkpoint is as durable as the bucket makes it. An error that
// wraps logcore.ErrFenced says that a newer page server writes the checkpoints: take the
// epoch again or leave it. Other errors leave the last checkpoint in force.
func (h *Holder) Save(ctx context.Context, c Content) (*Manifest, error) {
	if err := h.confirm(ctx); err != nil {
		return nil, err
	}
	m := &Manifest{Number: h.last.Number + 1, Epoch: h.epoch, Prev: h.last.digest,
		Name: h.r.o.Name, StoreVersion: c.StoreVersion, Stripes: c.Stripes, Logs: c.Logs, Loans: h.last.running()}
	if c.Stripes.Empty() {
		m.Stripes = stripemap.All
	}
	if len(c.Logs) > 0 {
		m.Incarnation = c.Logs[0].Incarnation
	}
	names, err := c.FS.List(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	// Only what the newest manifest names is certain to be there still.
	stored := map[string]bool{}
	for _, t := range h.last.Tables {
		stored[h.r.tableKey(t)] = true
	}
	slices.Sort(names)
	for _, name := range names {
		if err := h.saveFile(ctx, m, c, name, stored); err != nil {
			return nil, err
		}
	}
	m.Warm = m.warm(c.Warm)
	if err := m.validate(); err != nil {
		return nil, err
	}
	if err := h.put(ctx, m); err != nil {
		return nil, err
	}
	h.r.metrics.commits.Inc()
	h.r.metrics.last.Set(float64(m.Created.UnixNano()) / 1e9)
	return m, nil
}

// IsTable reports whether a file of a store never changes once it is there.
func IsTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

func (h *Holder) saveFile(ctx context.Context, m *Manifest, c Content, name string, stored map[string]bool) error {
	if name == "LOCK" || name == ManifestFile {
		return nil
	}
	if t, ok := c.Known[name]; ok && stored[h.r.tableKey(t)] {
		t.Name = name
		m.Tables = append(m.Tables, t)
		h.r.metrics.reused.Add(float64(t.Size))
		return nil
	}
	content, err := readFile(c.FS, c.FS.PathJoin(c.Dir, name))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if !IsTable(name) {
		m.Small = append(m.Small, Small{Name: name, Data: content})
		return nil
	}
	if len(content) == 0 {
		return damaged(name, "a table without a byte")
	}
	if c.Check != nil {
		if err := c.Check(name, content); err != nil {
			return fmt.Errorf("checkpoint: %s: %w", name, err)
		}
	}
	t, err := h.store(ctx, name, content)
	if err != nil {
		return err
	}
	m.Tables = append(m.Tables, t)
	return nil
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d can be stored", logcore.ErrTooLarge, path, info.Size(), int64(fileBytesMax))
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// store stores a table under the holder's epoch.
func (h *Holder) store(ctx context.Context, name string, content []byte) (Table, error) {
	t, sealed, err := sealFile(ctx, h.r.o.Keys, h.r.o.Cluster, content, BlockBytes)
	if err != nil {
		return t, err
	}
	t.Name, t.Epoch, t.store = name, h.epoch, h.r.o.Name
	err = h.r.o.Bucket.PutIfAbsent(ctx, h.r.tableKey(t), sealed)
	if errors.Is(err, bucket.ErrExists) {
		// The name says what belongs there, so what is there is damaged or half.
		h.r.countDamage(damaged(h.r.tableKey(t), "other content than its name says"))
		err = errors.Join(h.r.o.Bucket.Delete(ctx, h.r.tableKey(t)), h.r.o.Bucket.PutIfAbsent(ctx, h.r.tableKey(t), sealed))
	}
	if err != nil {
		return t, fmt.Errorf("checkpoint: store %s: %w", name, err)
	}
	h.r.metrics.stored.Add(float64(len(sealed)))
	return t, nil
}

// warm finds the blocks of reads; those of files that are no table of m are left out.
func (m *Manifest) warm(reads []Read) []Block {
	index := map[string]int{}
	for i, t := range m.Tables {
		index[t.Name] = i
	}
	seen := map[Block]bool{}
	var out []Block
	for _, r := range reads {
		i, ok := index[r.Name]
		b := Block{Table: i, Block: r.Block}
		if !ok || seen[b] || r.Block >= m.Tables[i].blocks() || len(out) == warmMax {
			continue
		}
		seen[b] = true
		out = append(out, b)
	}
	return out
}
