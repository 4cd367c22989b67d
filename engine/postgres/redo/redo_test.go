package redo_test

import (
	"errors"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// eachRecord decodes the consistency sample.
func eachRecord(t testing.TB, each func(*wal.Record)) {
	t.Helper()
	log, err := walsample.Consistency.Log()
	if err != nil {
		t.Fatal(err)
	}
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	d.Feed(log)
	var r wal.Record
	for err = d.Next(&r); err == nil; err = d.Next(&r) {
		each(&r)
	}
}

func TestARecordIsRedoneOnce(t *testing.T) {
	var o redo.Redo
	twice := 0
	eachRecord(t, func(r *wal.Record) {
		for i := range r.Blocks {
			b := &r.Blocks[i]
			if !b.HasImage || b.Image.Apply || b.WillInit {
				continue
			}
			p := make(page.Page, page.Bytes)
			if err := b.Image.Restore(p); err != nil {
				t.Fatal(err)
			}
			p.SetLSN(uint64(r.End))
			before := string(p)
			if outcome, err := o.Block(r, b, p); err != nil || outcome != redo.Skipped || string(p) != before {
				t.Errorf("record %v, block %d, on the page as it is after: outcome %d, changed %t, %v", r.Start, b.ID, outcome, string(p) != before, err)
			}
			twice++
		}
	})
	if twice < 2000 {
		t.Errorf("%d blocks, want 2,000", twice)
	}
}

func TestARecordForAnotherPageIsCorruption(t *testing.T) {
	var o redo.Redo
	refused := 0
	eachRecord(t, func(r *wal.Record) {
		if r.Manager != wal.ManagerHeap && r.Manager != wal.ManagerBtree || len(r.Blocks) == 0 || r.Blocks[0].WillInit || r.Blocks[0].Image.Apply {
			return
		}
		p := make(page.Page, page.Bytes) // never written: it has no items and no special area
		if _, err := o.Block(r, &r.Blocks[0], p); errors.Is(err, logcore.ErrCorrupt) {
			refused++
		} else {
			t.Errorf("record %v on an empty page: %v, want ErrCorrupt", r.Start, err)
		}
	})
	if refused < 1000 {
		t.Errorf("%d records were refused, want 1,000", refused)
	}
}

func TestAManagerWithoutRedoNeedsAnImage(t *testing.T) {
	r := wal.Record{Manager: wal.ManagerGin, Info: 0x20, Start: 100, End: 200}
	b := wal.Block{}
	p := make(page.Page, page.Bytes)
	_, err := redo.Redo{}.Block(&r, &b, p)
	if !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("got %v, want ErrUnsupportedVersion", err)
	}
	image := make([]byte, page.Bytes)
	page.Page(image).Init(8)
	b.HasImage, b.Image = true, wal.Image{Bytes: image} // for checking only, as wal_consistency_checking writes it
	if outcome, err := (redo.Redo{}).Block(&r, &b, p); err != nil || outcome != redo.Restored || p.LSN() != 200 {
		t.Errorf("outcome %d, LSN %d, %v; want the image with LSN 200", outcome, p.LSN(), err)
	}
}

// The server clears a GiST page's mark only after it wrote the record, so the image still has it.
func TestTheImageOfAGistPageIsCompleted(t *testing.T) {
	image := make([]byte, page.Bytes)
	page.Page(image).Init(16)
	special := page.Bytes - 16
	image[special+12] = 1<<3 | 1 // follow right, leaf
	for _, c := range []struct {
		op, block   uint8
		followRight bool
		nsn         uint64
	}{{0x00, 0, true, 0}, {0x00, 1, false, 200}, {0x30, 0, false, 200}, {0x30, 1, true, 0}, {0x10, 1, true, 0}} {
		r := wal.Record{Manager: wal.ManagerGist, Info: c.op, Start: 100, End: 200}
		for _, apply := range []bool{true, false} {
			p := make(page.Page, page.Bytes)
			b := wal.Block{ID: c.block, HasImage: true, Image: wal.Image{Apply: apply, Bytes: image}}
			_, err := redo.Redo{}.Block(&r, &b, p)
			if follow, nsn := p[special+12] == 9, p[special:].LSN(); err != nil || follow != c.followRight || nsn != c.nsn {
				t.Errorf("operation %02X, block %d: follow right %t, NSN %d, %v; want %t and %d", c.op, c.block, follow, nsn, err, c.followRight, c.nsn)
			}
		}
	}
	image[16], image[17] = 0, 0x20 // no special area: a page of something else
	r := wal.Record{Manager: wal.ManagerGist, Info: 0x30, Start: 100, End: 200}
	b := wal.Block{HasImage: true, Image: wal.Image{Bytes: image}}
	if _, err := (redo.Redo{}).Block(&r, &b, make(page.Page, page.Bytes)); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("an image without a special area: %v, want ErrCorrupt", err)
	}
}

// FuzzBlock redoes anything on anything. An error is fine, a panic is not.
func FuzzBlock(f *testing.F) {
	n := 0
	eachRecord(f, func(r *wal.Record) {
		if n++; n%40 == 0 && len(r.Blocks) > 0 && r.Blocks[0].HasImage {
			p := make(page.Page, page.Bytes)
			if r.Blocks[0].Image.Restore(p) == nil {
				f.Add(uint8(r.Manager), r.Info, r.Blocks[0].ID, r.Data, r.Blocks[0].Data, []byte(p))
			}
		}
	})
	managers := []wal.Manager{wal.ManagerHeap, wal.ManagerHeap2, wal.ManagerBtree, wal.ManagerSequence, wal.ManagerGeneric}
	f.Fuzz(func(t *testing.T, manager, info, id uint8, main, data, before []byte) {
		r := wal.Record{Manager: wal.Manager(manager), Info: info, XID: 700, Start: 1 << 40, End: 1<<40 + 100, Data: main}
		if manager > uint8(wal.ManagerLogicalMessage) {
			r.Manager = managers[int(manager)%len(managers)]
		}
		for i := range uint8(5) {
			r.Blocks = append(r.Blocks, wal.Block{ID: i, Number: uint32(i), HasData: true, Data: data})
		}
		p := make(page.Page, page.Bytes)
		copy(p, before)
		_, _ = redo.Redo{}.Block(&r, &r.Blocks[id%5], p)
		redo.Mask(r.Manager, p, 0)
		changes, n := redo.VisibilityCleared(&r)
		for _, c := range changes[:n] {
			c.Apply(p)
		}
	})
}

func BenchmarkHotUpdate(b *testing.B) {
	benchmarkKind(b, wal.ManagerHeap, 0x40)
}

func BenchmarkInsertLeaf(b *testing.B) {
	benchmarkKind(b, wal.ManagerBtree, 0x00)
}

// benchmarkKind redoes one record of a kind on a copy of its page.
func benchmarkKind(b *testing.B, m wal.Manager, op uint8) {
	pages := map[uint64]page.Page{}
	var o redo.Redo
	done := false
	eachRecord(b, func(r *wal.Record) {
		for i := range r.Blocks {
			bl := &r.Blocks[i]
			key := uint64(bl.Relation.File)<<32 | uint64(bl.Number)
			if p := pages[key]; p != nil && !done && r.Manager == m && r.Op() == op && !bl.Image.Apply && bl.ID == 0 {
				done = true
				before := append(page.Page(nil), p...)
				b.ReportAllocs()
				for b.Loop() {
					copy(p, before)
					if outcome, err := o.Block(r, bl, p); err != nil || outcome != redo.Redone {
						b.Fatal(outcome, err)
					}
				}
			}
			if bl.HasImage {
				p := make(page.Page, page.Bytes)
				if err := bl.Image.Restore(p); err != nil {
					b.Fatal(err)
				}
				p.SetLSN(uint64(r.End))
				pages[key] = p
			}
		}
	})
	if !done {
		b.Fatal("the sample has no such record")
	}
}
