package tiering

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// refused opens an archiver that must not come in: want it refused, and nothing left on
// any target that would fence the one that may.
func (w *world) refused(want error, text string) {
	w.t.Helper()
	before := map[string]bool{}
	for i := range w.stores {
		for _, key := range w.keysOn(i, "") {
			before[targetNames[i]+" "+key] = true
		}
	}
	a, err := Open(w.t.Context(), w.options())
	if err == nil {
		w.t.Fatalf("it came in: %+v", a.Status())
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		w.t.Errorf("got %v, want %v that says %q", err, want, text)
	}
	for i := range w.stores {
		for _, key := range w.keysOn(i, "") {
			if !before[targetNames[i]+" "+key] {
				w.t.Errorf("it left %s on %s", key, targetNames[i])
			}
		}
	}
}

// copied returns a hot tier with the same history, as a restore or a backup makes one.
func (h *hot) copied(upTo logcore.LSN) *hot {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := newHot(uint64(upTo) + 1000)
	for l := logcore.LSN(1); l <= upTo; l++ {
		c.frames[l], c.sums[l] = h.frames[l], h.sums[l]
	}
	c.segments, c.committed = []Segment{{First: 1, Last: upTo}}, upTo
	return c
}

// A hot tier from a backup, restarted over and over so that its epoch passes the newer
// one's, neither comes in nor fences it off.
func TestOlderHotTierNeverClaims(t *testing.T) {
	w := newWorld(t, 60)
	w.hot.append(5, 100)
	backup := w.hot.copied(5)
	a := w.start(nil)
	w.hot.append(5, 100)
	a.flushAll()
	newer := w.hot
	w.hot = backup
	for range 4 {
		w.hot.append(1, 50) // a start writes something; the tenth entry is there in the end
		w.refused(ErrDiverged, "logcore restore")
	}
	w.hot = newer
	w.hot.append(5, 100)
	a.flushAll()
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	w.mustCheck(15)
}

// The service whose archive was restored comes back and has the very same entries: it
// must not come in any more. A second service restored at the same time neither.
func TestOnlyTheLastRestoredIncarnationComesIn(t *testing.T) {
	w := newWorld(t, 61)
	w.hot.append(5, 100)
	a := w.start(nil)
	a.flushAll()
	a.close()
	seen := w.epoch
	w.change = func(o *Options) { o.Incarnation, o.Supersedes = 8, seen }
	b := w.start(nil)
	w.change = nil // the predecessor
	w.refused(logcore.ErrFenced, "incarnation")
	w.change = func(o *Options) { o.Incarnation, o.Supersedes = 9, seen } // the second restore
	w.refused(logcore.ErrFenced, "incarnation")
	b.close()
	w.refused(logcore.ErrFenced, "incarnation") // though the first one is stopped

	w.change = func(o *Options) { o.Incarnation, o.Supersedes = 8, seen } // which is started again
	b = w.start(nil)
	w.hot.append(5, 100)
	b.flushAll()
	b.close()
	w.change = nil
	w.refused(logcore.ErrFenced, "written")
	restored, err := w.readerOn(w.targets()) // a third restore sees all of it and goes on
	if err != nil {
		t.Fatal(err)
	}
	w.change = func(o *Options) { o.Incarnation, o.Supersedes = 10, restored.Epoch(); o.Epoch = restored.Epoch() + 1 }
	c := w.start(nil)
	w.hot.append(1, 100)
	c.flushAll()
	c.close()
	w.mustCheck(w.hot.Committed())
}

// Two archivers of one epoch: the second is refused while the first lives, whatever
// incarnation it has, and the first goes on.
func TestTwoArchiversOfOneEpoch(t *testing.T) {
	w := newWorld(t, 62)
	first := w.start(nil)
	w.hot.append(5, 100)
	first.flushAll()
	w.epoch--
	w.refused(logcore.ErrFenced, "another archiver of epoch 1")
	w.hot.append(5, 100)
	first.flushAll()
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	w.mustCheck(10)
}

// Two archivers of one epoch that both found the archive unclaimed: at most one is left,
// and a record of the other under its own key ends it.
func TestForeignRecordOfTheOwnEpoch(t *testing.T) {
	w := newWorld(t, 63)
	first := w.start(nil)
	w.hot.append(5, 100)
	first.flushAll()
	s := first.state.Load()
	rec := s.change(first.o.Epoch, first.targetNames(), s.live...)
	rec.incarnation = 99
	encoded, err := encodeRecord(t.Context(), w.keys, rec)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.stores {
		if err := w.stores[i].PutIfAbsent(t.Context(), rec.key(), encoded); err != nil {
			t.Fatal(err)
		}
	}
	w.hot.append(5, 100)
	if err := first.flushOrDie(); !errors.Is(err, logcore.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	if first.Covered() != 5 {
		t.Errorf("covered %d", first.Covered())
	}
}

// A hot tier that was trimmed, and targets with nothing on them: not its targets.
func TestEmptyTargetsBesideATrimmedHotTier(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(nil)
	w.hot.append(20, 100)
	w.hot.seal()
	w.hot.append(5, 100)
	a.flushAll()
	a.settled()
	a.close()
	empty := newWorld(t, 64)
	empty.hot, empty.epoch = w.hot, w.epoch
	empty.refused(ErrDiverged, "begins at entry 21")
	// And targets that were rolled back to before what was trimmed.
	part := newWorld(t, 64)
	older := newHot(64)
	older.append(10, 100)
	part.hot = older
	b := part.start(nil)
	b.flushAll()
	b.close()
	part.hot = w.hot
	part.refused(ErrDiverged, "ends at 10")
}

// What a dead archiver claimed and never wrote counts for who restores: its epoch would
// fence the restored service off.
func TestReaderSeesClaimsWithoutRecords(t *testing.T) {
	w := newWorld(t, 65)
	a := w.start(nil)
	w.hot.append(5, 100)
	a.flushAll()
	a.close()
	for range 5 {
		b, err := Open(t.Context(), w.options())
		if err != nil {
			t.Fatal(err)
		}
		b.background.group.Wait()
	}
	// The newest claim on a target alone: its archiver came no further.
	w.epoch = 19
	lonely, err := newArchiver(w.options())
	if err != nil {
		t.Fatal(err)
	}
	r := &record{cluster: testCluster, epoch: 20, kind: recordClaim, incarnation: 7, archiver: lonely.id, targets: lonely.targetNames()}
	encoded, err := encodeRecord(t.Context(), w.keys, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.stores[3].PutIfAbsent(t.Context(), r.key(), encoded); err != nil {
		t.Fatal(err)
	}
	reader, err := w.readerOn(w.targets())
	if err != nil || reader.Epoch() != 20 {
		t.Errorf("epoch %d, %v, want 20", reader.Epoch(), err)
	}
	w.epoch = 20
	w.change = func(o *Options) { o.Incarnation, o.Supersedes = 8, 20 }
	restored := w.start(nil)
	restored.flushAll()
	restored.close()
}

// The hot tier is found to be an older one only when the targets are back: then the
// archiver stops, and tells who serves beside it.
func TestOlderHotTierIsFoundOutLater(t *testing.T) {
	w, _ := filled(t, 66)
	older := newHot(28)
	older.append(2, 800)
	w.hot = older
	for i := range 3 {
		w.faults[i].Down()
	}
	a := w.start(nil)
	for i := range 3 {
		w.faults[i].Up()
	}
	select {
	case err := <-a.done:
		if !errors.Is(err, ErrDiverged) {
			t.Fatalf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("it goes on: %+v", a.Status())
	}
}
