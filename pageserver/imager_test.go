package pageserver_test

import (
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// TestBackgroundImages: a page whose reads apply a long chain gets an image where it is
// read, and is what it was.
func TestBackgroundImages(t *testing.T) {
	r := newRig(t, 0)
	r.opts.ChainDeltasMax, r.opts.PageCacheBytes, r.opts.WriteCacheBytes = 1000, 1, 1
	r.spaces = []engine.Space{engine.SpaceOf(1)}
	s := r.start()
	big := engine.Record{Space: r.spaces[0], Op: engine.OpImage, PageSize: 4096, Data: make([]byte, 4096)}
	var last logcore.LSN
	for page := range uint32(2) {
		big.Page = page
		appendRecords(t, r.source, "db", big)
		for i := range 40 {
			change := engine.Record{Space: r.spaces[0], Op: engine.OpDelta, Page: page, PageSize: 4096, Ranges: []engine.Range{{Offset: uint32(i), Data: []byte{byte(i), 7}}}}
			last = appendRecords(t, r.source, "db", change)
		}
	}
	read := func() {
		t.Helper()
		if _, err := s.GetPages(t.Context(), "db", r.spaces[0], []uint32{0}, pageserver.ReadAt{LSN: last, Wait: wait}); err != nil {
			t.Fatal(err)
		}
	}
	for r.metric("background_images_total") == 0 {
		read()
		if t.Context().Err() != nil {
			t.Fatal("no image was made")
		}
	}
	before := r.metric("deltas_applied_total")
	read()
	if n := r.metric("deltas_applied_total") - before; n != 0 {
		t.Errorf("a read of the page still applies %v changes", n)
	}
	for _, at := range []logcore.LSN{last, last - 3, last / 2} {
		if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyPagesAtOnce: a request that is read by several goroutines answers in the order
// asked for, page by page what single requests answer.
func TestManyPagesAtOnce(t *testing.T) {
	r := newRig(t, 300)
	r.opts.PageCacheBytes = 1
	s := r.start()
	at := pageserver.ReadAt{LSN: r.source.Last(), Wait: wait}
	var numbers []uint32
	for range 200 {
		numbers = append(numbers, uint32(r.rng.IntN(30)))
	}
	set, err := s.GetPages(t.Context(), "db", r.spaces[0], numbers, at)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range set.Pages {
		one, err := s.GetPages(t.Context(), "db", r.spaces[0], numbers[i:i+1], at)
		if err != nil {
			t.Fatal(err)
		}
		if q := one.Pages[0]; p.Number != numbers[i] || p.Digest != q.Digest || p.LastLSN != q.LastLSN || string(p.Data) != string(q.Data) {
			t.Fatalf("page %d at place %d differs from the page alone", p.Number, i)
		}
	}
}
