package pageserver

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// TestRecache: of the pages that a compaction wrote anew, those that were read lately are in the
// block cache again soon, and no others.
func TestRecache(t *testing.T) {
	s := &Server{opts: Options{BlockCacheBytes: 8 << 20}, log: slog.New(slog.DiscardHandler)}
	s.recacher = newRecacher(s)
	opts := &pebble.Options{FS: vfs.NewMem(), Comparer: comparer, DisableWAL: true, FormatMajorVersion: pebble.FormatTableFormatV6, CacheSize: 8 << 20,
		DisableAutomaticCompactions: true, Logger: pebbleLogger{s.log}, EventListener: &pebble.EventListener{CompactionEnd: s.recacher.compacted}}
	for i := range opts.Levels {
		opts.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	db, err := pebble.Open("store", opts)
	if err != nil {
		t.Fatal(err)
	}
	s.db = db
	defer db.Close()
	const pages = 64
	space := engine.SpaceOf(1)
	write := func(lsn logcore.LSN) {
		t.Helper()
		for page := range uint32(pages) {
			key := appendVersionKey(nil, 1, space, page, pos{lsn, 0})
			if err := db.Set(key, sealImage(key, make([]byte, 8192)), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	for page := uint32(10); page < 20; page++ {
		s.recacher.note(heatID{1, space, page})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.recacher.run(ctx)
	}()
	defer func() { cancel(); <-done }()
	write(2)
	for deadline := time.Now().Add(time.Minute); s.recacher.pages.Load() < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no page was brought back")
		}
	}
	missed := func(page uint32) uint64 {
		it, err := db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		if !it.SeekPrefixGE(appendVersionKey(nil, 1, space, page, endOfHistory)) {
			t.Fatalf("page %d: %v", page, it.Error())
		}
		if _, err := it.ValueAndErr(); err != nil {
			t.Fatal(err)
		}
		stats := it.Stats().InternalStats
		return stats.BlockBytes - stats.BlockBytesInCache
	}
	if n := missed(15); n != 0 {
		t.Errorf("%d bytes of a page that was read lately are not cached", n)
	}
	if n := missed(50); n < 8192 {
		t.Errorf("only %d bytes of a page that nobody read had to be read", n)
	}
}

// TestRecacheTakes: pages are taken in the order of their keys, when their versions may lie in a
// table that was written, however many tables wait, and as long as they are read.
func TestRecacheTakes(t *testing.T) {
	g := newRecacher(&Server{opts: Options{BlockCacheBytes: 1 << 30}})
	space := engine.SpaceOf(1)
	key := func(page uint32) []byte { return appendVersionKey(nil, 1, space, page, pos{5, 0}) }
	for _, page := range []uint32{100, 10, 7, 4, 2, 1, 103, 104} {
		g.note(heatID{1, space, page})
	}
	taken := func(want ...uint32) {
		t.Helper()
		var got []uint32
		for _, id := range g.take() {
			if id.log != 1 || id.space != space {
				t.Fatalf("%v taken", id)
			}
			got = append(got, id.page)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pages %v taken, want %v", got, want)
		}
	}
	taken()
	g.add(keyRange{key(7), key(10)})
	g.add(keyRange{key(1), key(3)})
	g.add(keyRange{key(2), key(4)})
	taken(1, 2, 4, 7, 10)
	taken() // once
	for range recacheRangesMax {
		g.add(keyRange{key(100), key(100)})
	}
	g.add(keyRange{key(4), key(5)})
	g.add(keyRange{key(103), key(103)})
	taken(4, 7, 10, 100, 103) // those between too
	for range recacheIdleMax {
		g.note(heatID{1, space, 2})
		g.all()
		g.take()
	}
	g.all()
	taken(2)
}

// TestRecacheIsBounded: what is remembered does not grow with what is read, and most of what was
// read last is remembered.
func TestRecacheIsBounded(t *testing.T) {
	g := newRecacher(&Server{opts: Options{BlockCacheBytes: 16 << 20}})
	const places = 4096
	for page := range uint32(100_000) {
		g.note(heatID{1, engine.SpaceOf(1), page})
	}
	g.all()
	got := g.take()
	late := 0
	for _, id := range got {
		if id.page >= 100_000-places/2 {
			late++
		}
	}
	if len(got) > places || late < places*3/8 {
		t.Errorf("%d pages remembered, %d of the last %d, want at most %d and %d", len(got), late, places/2, places, places*3/8)
	}
}
