package pagebench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/pageserver"
)

const (
	ingestPages   = 8192
	ingestRecords = 400_000
	ingestBytes   = 100 // of a record
	memTableBytes = 32 << 20
)

// ingest measures how fast a log's records become versions, beside Pebble when it is
// given what the page server wrote: the same keys and values, each change and each commit
// under a key of its own, a batch for each commit, without a write-ahead log too. Both begin with a store that has an image of each page.
func (r *run) ingest(ctx context.Context) error {
	h := newHistory(1)
	space := engine.SpaceOf(1)
	for n := range ingestPages {
		if err := h.image(space, uint32(n)); err != nil {
			return err
		}
	}
	if err := h.commit(); err != nil {
		return err
	}
	before := h.last
	for range ingestRecords {
		if err := h.delta(space, uint32(h.rng.IntN(ingestPages)), ingestBytes); err != nil {
			return err
		}
	}
	if err := h.commit(); err != nil {
		return err
	}
	writes, err := r.storeWrites(ctx, h, before)
	if err != nil {
		return err
	}
	timings, err := figures.Contest(ctx, r.o.Rounds,
		figures.Contender{Name: "pageserver", Do: func(c *figures.Clock) error { return r.ingestOnce(ctx, h, before, c) }},
		figures.Contender{Name: "pebble", Do: func(c *figures.Clock) error { return r.pebbleOnce(writes, c) }})
	if err != nil {
		return err
	}
	ours, raw := timings["pageserver"], timings["pebble"]
	const n = float64(ingestRecords)
	detail := map[string]any{"records": ingestRecords, "record_bytes": ingestBytes, "pages": ingestPages, "records_per_transaction": txRecords,
		"pageserver_records_per_s": n / ours.Median, "pebble_records_per_s": n / raw.Median,
		"pebble_keys": writes.keys, "pebble_bytes": writes.bytes, "processor_ratio": raw.Processor / ours.Processor}
	r.AtLeast("ingest: page server / Pebble batch writes", raw.Median/ours.Median, 0.6, "ratio", detail)
	r.AtLeast("ingest: records of 100 B per core and second", n/ours.Processor, 200_000, "records/s",
		map[string]any{"processor_us_per_record": 1e6 * ours.Processor / n, "allocations_per_record": ours.Allocations / n, "records_per_s": n / ours.Median, "processor_s": ours.Processor, "wall_s": ours.Median})
	return nil
}

// ingestOnce lets a page server ingest the history; the clock runs from where it has the
// images until it has all, not until all is flushed, as with Pebble alone.
func (r *run) ingestOnce(ctx context.Context, h *history, before logcore.LSN, c *figures.Clock) error {
	dir := r.freshDir("ingest")
	defer os.RemoveAll(dir)
	source := &gated{h.source, before, make(chan struct{})}
	s, err := r.start(ctx, pageserver.Options{Dir: dir, Source: source, MemTableBytes: memTableBytes})
	if err != nil {
		return err
	}
	if err := s.wait(ctx, before); err != nil {
		return errors.Join(err, s.stop())
	}
	c.Begin()
	close(source.open)
	err = s.wait(ctx, h.last)
	c.End()
	return errors.Join(err, s.stop())
}

// writes is what a page server writes for a history: the images first, then a batch of
// keys and values for each commit.
type writes struct {
	images, commits [][][2][]byte
	keys, bytes     int
}

// storeWrites lets a page server ingest the history once and reads what it wrote.
func (r *run) storeWrites(ctx context.Context, h *history, before logcore.LSN) (writes, error) {
	var w writes
	dir := r.freshDir("writes")
	defer os.RemoveAll(dir)
	s, err := r.start(ctx, pageserver.Options{Dir: dir, Source: h.source, MemTableBytes: memTableBytes})
	if err != nil {
		return w, err
	}
	if err := errors.Join(s.wait(ctx, h.last), s.stop()); err != nil {
		return w, err
	}
	store, err := pageserver.Inspect(dir, 8<<20)
	if err != nil {
		return w, err
	}
	defer store.Close()
	byLSN, states := map[logcore.LSN][][2][]byte{}, [][2][]byte{}
	err = store.EachChange(func(lsn logcore.LSN, key, value []byte) error {
		kv := [2][]byte{bytes.Clone(key), bytes.Clone(value)}
		if lsn == 0 {
			if key[0] == 'i' { // the position, written again with every commit; the rest is not ingest's
				states = append(states, kv)
			}
			return nil
		}
		byLSN[lsn] = append(byLSN[lsn], kv)
		return nil
	})
	if err != nil {
		return w, err
	}
	for _, e := range h.source.Entries(logName) {
		batch, ok := byLSN[e.LSN]
		if !ok {
			return w, fmt.Errorf("the store has nothing of LSN %d", e.LSN)
		}
		batch = append(batch, states...)
		if e.LSN <= before {
			w.images = append(w.images, batch)
			continue
		}
		w.commits = append(w.commits, batch)
		for _, kv := range batch {
			w.keys, w.bytes = w.keys+1, w.bytes+len(kv[0])+len(kv[1])
		}
	}
	return w, nil
}

// pebbleOnce writes the same to Pebble alone.
func (r *run) pebbleOnce(w writes, c *figures.Clock) error {
	dir := r.freshDir("pebble")
	defer os.RemoveAll(dir)
	opts := &pebble.Options{DisableWAL: true, MemTableSize: memTableBytes, MemTableStopWritesThreshold: 4, L0CompactionThreshold: 4,
		L0StopWritesThreshold: 24, LBaseMaxBytes: 64 << 20, CacheSize: 64 << 20, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: quiet{}}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy, opts.Levels[i].FilterType = bloom.FilterPolicy(10), pebble.TableFilter
	}
	db, err := pebble.Open(filepath.Join(dir, "store"), opts)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := apply(db, w.images); err != nil {
		return err
	}
	c.Begin()
	err = apply(db, w.commits)
	c.End()
	return err
}

func apply(db *pebble.DB, batches [][][2][]byte) error {
	for _, kvs := range batches {
		b := db.NewBatch()
		for _, kv := range kvs {
			if err := b.Set(kv[0], kv[1], nil); err != nil {
				return err
			}
		}
		if err := db.Apply(b, pebble.NoSync); err != nil {
			return err
		}
		if err := b.Close(); err != nil {
			return err
		}
	}
	return nil
}

// quiet is a logger that says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
