package pages_test

import (
	"bytes"
	"testing"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/pagestest"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// BenchmarkDecode decodes WAL in entries of some 30 KiB on one core; the bytes are those of the WAL.
func BenchmarkDecode(b *testing.B) {
	entries := logOf(b, walsample.Consistency, 11)
	m := pagestest.NewMemory()
	type step struct{ state, payload []byte }
	var steps []step
	total := int64(0)
	for _, e := range entries {
		for _, p := range e.Payloads {
			q, err := payload.Decode(p)
			if err != nil {
				b.Fatal(err)
			}
			if q.Kind == payload.KindWAL {
				steps = append(steps, step{m.State, p})
				total += int64(len(q.Content))
			}
			take(b, m, pagestest.Entry{Payloads: [][]byte{p}})
		}
	}
	b.SetBytes(total)
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range steps {
			if _, _, err := (pages.Decoder{}).Decode(s.state, s.payload); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRedoHotUpdate applies the redo data of one HOT update to a page in memory, as a read of the page server does.
func BenchmarkRedoHotUpdate(b *testing.B) { benchmarkRedo(b, wal.ManagerHeap, 0x40) }

// BenchmarkRedoInsertLeaf does that of an insertion into a B-tree's leaf.
func BenchmarkRedoInsertLeaf(b *testing.B) { benchmarkRedo(b, wal.ManagerBtree, 0x00) }

func benchmarkRedo(b *testing.B, manager wal.Manager, op uint8) {
	before, data := redoOf(b, manager, op)
	p := make([]byte, page.Bytes)
	b.ReportAllocs()
	for b.Loop() {
		copy(p, before)
		if err := (pages.Decoder{}).Redo(p, data); err != nil {
			b.Fatal(err)
		}
	}
	if bytes.Equal(p, before) {
		b.Fatal("nothing was done")
	}
}

// redoOf returns the redo data of one record of the sample and the page before it.
func redoOf(b *testing.B, manager wal.Manager, op uint8) (before, data []byte) {
	b.Helper()
	log, err := walsample.Consistency.Log()
	if err != nil {
		b.Fatal(err)
	}
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		b.Fatal(err)
	}
	d.Feed(log)
	images := map[engine.Space]map[uint32][]byte{}
	var r wal.Record
	for d.Next(&r) == nil {
		for i := range r.Blocks {
			bl := &r.Blocks[i]
			space := pages.RelationSpace(bl.Relation, bl.Fork)
			if p := images[space][bl.Number]; p != nil && r.Manager == manager && r.Op() == op && !bl.Image.Apply && bl.ID == 0 {
				return p, pages.RedoData(&r, i, effect.Settings{})
			}
			if !bl.HasImage {
				continue
			}
			p := make(page.Page, page.Bytes)
			if err := bl.Image.Restore(p); err != nil {
				b.Fatal(err)
			}
			p.SetLSN(uint64(r.End))
			if images[space] == nil {
				images[space] = map[uint32][]byte{}
			}
			images[space][bl.Number] = p
		}
	}
	b.Fatal("the sample has no such record")
	return nil, nil
}
