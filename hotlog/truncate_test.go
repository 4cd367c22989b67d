package hotlog

import (
	"errors"
	"testing"

	"github.com/logcore/logcore"
)

// A truncation that meets damage in the segment it would cut changes nothing: what is
// appended behind it, and acknowledged, is there when the log is opened again.
func TestTruncateThatMeetsDamageChangesNothing(t *testing.T) {
	w := newWorld(4)
	w.opts.CacheBytes = 1
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	fill(t, w.log, 100, 40, 10)
	cut := (*w.log.view.Load())[1] // of LSNs 41 to 80
	off := (cut.committed.end + cut.header.Start().Offset) / 2
	flip := func(data []byte) { data[off] ^= 1 }
	w.disk.Corrupt(cut.name, flip)
	if err := w.log.TruncateTail(75); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("truncation of a damaged segment: %v", err)
	}
	w.disk.Corrupt(cut.name, flip)
	if w.log.Last() != 100 || w.log.Durable() != 100 || len(w.log.Segments()) != 3 {
		t.Errorf("the log ends at %d, %d of it durable, in %d segments", w.log.Last(), w.log.Durable(), len(w.log.Segments()))
	}
	next := w.log.Last() + 1
	fill(t, w.log, next+5, 40, 2)
	w.disk = w.disk.Crash(1)
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.log.Close()
	if w.log.Last() != next+5 {
		t.Fatalf("lost: acknowledged up to %d, the log ends at %d", next+5, w.log.Last())
	}
	for lsn := logcore.LSN(1); lsn <= w.log.Last(); lsn++ {
		got, err := w.log.Entries(lsn, lsn+1, 1)
		if err != nil || got[0].LSN != lsn {
			t.Fatalf("LSN %d: %v", lsn, err)
		}
	}
}

// A reader that asked how far the log is durable just before a truncation is not given
// what was submitted after it and is not durable yet.
func TestCacheShowsDurableEntriesOnly(t *testing.T) {
	w := newWorld(4)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.log.Close()
	fill(t, w.log, 20, 40, 5)
	if err := w.log.TruncateTail(10); err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	if err := w.log.Submit([]logcore.Entry{entry(11, 10)}, func(error) { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held // the committer stands still
	done := make(chan error, 1)
	if err := w.log.Submit([]logcore.Entry{entry(12, 10), entry(13, 10)}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if runs := w.log.cached(12, 21); len(runs) != 0 {
		t.Error("LSN 12 is shown, only 11 is durable")
	}
	if runs := w.log.cached(11, 21); len(runs) != 1 || len(runs[0].offs) != 1 {
		t.Error("of LSNs 11 to 13 more or less than the durable one are shown")
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
