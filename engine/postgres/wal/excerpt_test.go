package wal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// An excerpt has of its record what concerns the block: the same to redo, and no other block's image or data.
func TestExcerptsOfAllRecords(t *testing.T) {
	log, err := walsample.Various.Log()
	if err != nil {
		t.Fatal(err)
	}
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	d.Feed(log)
	var r, x wal.Record
	blocks := 0
	for d.Next(&r) == nil {
		for i := range r.Blocks {
			for _, image := range []bool{false, r.Blocks[i].HasImage} {
				blocks++
				excerpt := r.AppendExcerpt([]byte("before"), i, image)[len("before"):]
				b, err := wal.ParseExcerpt(excerpt, &x)
				if err != nil {
					t.Fatalf("record %v: %v", r.Start, err)
				}
				compareExcerpt(t, &r, &x, &r.Blocks[i], b, image)
			}
		}
	}
	if blocks < 10000 {
		t.Errorf("%d blocks: nothing was shown", blocks)
	}
}

func compareExcerpt(t *testing.T, r, x *wal.Record, want, got *wal.Block, image bool) {
	t.Helper()
	if x.Manager != r.Manager || x.Info != r.Info || x.XID != r.XID || x.Start != r.Start || x.End != r.End {
		t.Fatalf("record %v: %+v, want %+v", r.Start, x, r)
	}
	if got.ID != want.ID || got.Relation != want.Relation || got.Fork != want.Fork || got.Number != want.Number || got.WillInit != want.WillInit || got.HasImage != image {
		t.Fatalf("record %v: block %+v, want %+v", r.Start, got, want)
	}
	if image {
		a, b := got.Image, want.Image
		if a.Apply != b.Apply || a.Compression != b.Compression || a.HoleOffset != b.HoleOffset || a.HoleBytes != b.HoleBytes || !bytes.Equal(a.Bytes, b.Bytes) || len(x.Blocks) != 1 || len(x.Data) != 0 {
			t.Fatalf("record %v: image %+v, want %+v", r.Start, a, b)
		}
		return
	}
	if !bytes.Equal(got.Data, want.Data) || !bytes.Equal(x.Data, r.Data) || len(x.Blocks) != len(r.Blocks) {
		t.Fatalf("record %v: block %d has other data", r.Start, want.ID)
	}
	for i := range x.Blocks {
		a, b := &x.Blocks[i], &r.Blocks[i]
		if a.ID != b.ID || a.Relation != b.Relation || a.Number != b.Number || a.ID != want.ID && (a.HasData || a.HasImage) {
			t.Fatalf("record %v: another block %+v, want %+v", r.Start, a, b)
		}
	}
}

func FuzzExcerpt(f *testing.F) {
	r := wal.Record{Manager: wal.ManagerHeap, End: 100, Data: []byte{1, 2}, Blocks: []wal.Block{{HasData: true, Data: []byte{3}}}}
	f.Add(r.AppendExcerpt(nil, 0, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r wal.Record
		block, err := wal.ParseExcerpt(b, &r)
		if err != nil && !errors.Is(err, logcore.ErrCorrupt) || err == nil && block == nil {
			t.Errorf("%v, %v", block, err)
		}
	})
}
