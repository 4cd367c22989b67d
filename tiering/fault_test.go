package tiering

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// shortLife archives two tails, folds a segment and archives a third tail.
func shortLife(w *world) (*running, error) {
	a := w.start(nil)
	for range 2 {
		w.hot.append(2, 400)
		if err := a.flushOrDie(); err != nil {
			return a, err
		}
	}
	w.hot.seal()
	w.hot.append(1, 300)
	if err := a.flushOrDie(); err != nil {
		return a, err
	}
	return a, a.quiesce()
}

// TestEveryCallOfATargetGoingWrong breaks each call to one target in each way, one at a
// time. Whatever happens, what is covered stays readable from any four targets, and in
// the end nothing is degraded, rotten or left behind.
func TestEveryCallOfATargetGoingWrong(t *testing.T) {
	const victim = 2
	for _, c := range []struct {
		name   string
		op     bucket.Op
		effect bucket.Effect
	}{
		{"put lost", bucket.OpPut, bucket.Fail(nil)},
		{"put stored but reported lost", bucket.OpPut, bucket.DoneButLost(nil)},
		{"half a put, reported", bucket.OpPut, bucket.HalfPut(errors.New("injected"))},
		{"half a put, unreported", bucket.OpPut, bucket.HalfPut(nil)},
		{"put of nothing", bucket.OpPut, bucket.PutNothing()},
		{"put throttled", bucket.OpPut, bucket.Throttled()},
		{"put denied", bucket.OpPut, bucket.Fail(bucket.ErrDenied)},
		{"put full", bucket.OpPut, bucket.Fail(bucket.ErrFull)},
		{"get lost", bucket.OpGet, bucket.Fail(nil)},
		{"get of wrong bytes", bucket.OpGet, bucket.WrongBytes(777)},
		{"get cut short", bucket.OpGet, bucket.ShortRead()},
		{"list lost", bucket.OpList, bucket.Fail(nil)},
		{"delete lost", bucket.OpDelete, bucket.Fail(nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for from := 1; ; from += 1 + from/6 {
				w := newWorld(t, 40)
				w.change = func(o *Options) { o.MaxAge, o.Grace = 4*time.Millisecond, time.Nanosecond }
				rule := w.faults[victim].Add(bucket.Fault{Op: c.op, From: from, Count: 1, Effect: c.effect})
				a, err := shortLife(w)
				if err != nil {
					t.Fatalf("call %d: %v", from, err)
				}
				w.mustCheck(a.Covered())
				if err := a.close(); err != nil {
					t.Fatalf("call %d: %v", from, err)
				}
				noLeftovers(t, w, a)
				if t.Failed() {
					t.Fatalf("call %d", from)
				}
				if rule.Hits() == 0 {
					if from == 1 {
						t.Fatal("the fault hit nothing")
					}
					return
				}
			}
		})
	}
}

// A target that answers with the bytes of another object is found out.
func TestWrongObjectIsNeverReturned(t *testing.T) {
	w, covered := filled(t, 41)
	for i := range 2 {
		other := w.otherKey(i, w.liveKey(i))
		w.faults[i].Add(bucket.Fault{Op: bucket.OpGet, Key: "*/fragment/*", Effect: bucket.WrongObject(other)})
	}
	r, err := w.readerOn(w.targets())
	if err != nil {
		t.Fatal(err)
	}
	got, _, last, err := readBack(t.Context(), r)
	if err != nil || last != covered || string(got) != string(w.hot.content(1, covered)) {
		t.Fatalf("%v", err)
	}
}

// With one cloud gone objects are degraded and the hot tier keeps what they hold, until
// the cloud is back or the disk runs full.
func TestDegradedWhileACloudIsGone(t *testing.T) {
	w := newWorld(t, 42)
	a := w.start(nil)
	w.hot.append(3, 100)
	a.flushAll()
	w.faults[0].Down()
	w.faults[1].Down()
	for range 3 {
		w.hot.append(3, 100)
		a.flushAll()
	}
	w.hot.seal()
	w.hot.append(1, 100)
	a.flushAll()
	a.until("the segment is folded", func() bool { return a.state.Load().segmentComplete(1) })
	time.Sleep(20 * time.Millisecond)
	if a.Status().TrimmedUpTo != 0 || a.Status().Degraded == 0 {
		t.Fatalf("trimmed while degraded: %+v", a.Status())
	}
	if err := w.checkWithout(a.Covered(), 0, 1); err != nil {
		t.Fatal(err)
	}
	st := a.TargetStatus()
	if st[0].Healthy || st[0].ManifestSynced || st[0].Missing == 0 || !strings.Contains(st[0].LastError, "injected") || !st[2].Healthy || st[2].Fragments == 0 {
		t.Fatalf("targets %+v", st)
	}
	w.hot.mu.Lock()
	w.hot.used, w.hot.limit = 90, 100
	w.hot.mu.Unlock()
	a.until("trimmed under pressure", func() bool { return a.Status().TrimmedUpTo == 12 })
	w.faults[0].Up()
	w.faults[1].Up()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	w.mustCheck(a.Covered())
	if report, err := Verify(t.Context(), w.targets(), w.keys, nil); err != nil || !report.OK() {
		t.Fatalf("%v %v", err, report.Problems)
	}
}

// With three gone nothing is covered any more, and nothing is lost: it goes on when
// one is back.
func TestThreeTargetsGone(t *testing.T) {
	w := newWorld(t, 43)
	a := w.start(nil)
	w.hot.append(3, 100)
	a.flushAll()
	for i := range 3 {
		w.faults[i].Down()
	}
	w.hot.append(3, 100)
	a.until("the trouble shows", func() bool { return strings.Contains(a.Status().LastError, "3 of 6") })
	if a.Covered() != 3 || a.Status().Lag == 0 {
		t.Fatalf("%+v", a.Status())
	}
	w.faults[2].Up()
	a.flushAll()
	if err := w.checkWithout(6, 0, 1); err != nil {
		t.Fatal(err)
	}
}

// A target that hangs costs one round its patience and is then left alone.
func TestHangingTargetDoesNotHoldUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 44)
	w.change = func(o *Options) { o.OpTimeout = 8 * time.Second }
	a := w.start(nil)
	w.faults[5].Add(bucket.Fault{Effect: bucket.Hang()})
	for range 5 {
		w.hot.append(1, 100)
		a.flushAll()
	}
	if err := w.checkWithout(5, 5, 0); err != nil {
		t.Fatal(err)
	}
	if st := a.TargetStatus()[5]; st.Healthy {
		t.Fatalf("%+v", st)
	}
	if _, err := w.readerOn(w.bare()); err != nil {
		t.Fatal(err)
	}
	w.faults[5].Up()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
}

// A read served while a fragment is rotten makes the archiver rewrite it.
func TestReadRepairsThroughTheArchiver(t *testing.T) {
	w := newWorld(t, 45)
	a, err := shortLife(w)
	if err != nil {
		t.Fatal(err)
	}
	key := w.liveKey(1)
	w.rewriteObject(1, key, func(b []byte) []byte { b[len(b)-6] ^= 1; return b })
	if _, err := a.Reader().ReadRange(t.Context(), 1, 2, 1); err != nil {
		t.Fatal(err)
	}
	a.until("rewritten", func() bool {
		report, err := Verify(t.Context(), w.bare(), w.keys, nil)
		return err == nil && report.OK()
	})
	if counterValue(a.o.Corruptions) != 1 {
		t.Fatal(fmt.Sprint(counterValue(a.o.Corruptions)))
	}
}

// A target that could not even be opened counts as away; with it configured again the
// archive is whole again.
func TestTargetThatCouldNotBeOpened(t *testing.T) {
	w := newWorld(t, 46)
	w.change = func(o *Options) { o.Targets[0].Bucket, o.Targets[1].Bucket = nil, nil }
	a := w.start(nil)
	w.hot.append(4, 100)
	a.flushAll()
	if st := a.TargetStatus(); st[0].Healthy || st[0].LastError == "" || st[0].Location != "" || st[1].Missing != 1 {
		t.Fatalf("%+v", st)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	r, err := w.readerOn(a.o.Targets)
	if err != nil || r.Covered() != 4 {
		t.Fatalf("%v", err)
	}
	report, err := Verify(t.Context(), a.o.Targets, w.keys, nil)
	if err != nil || !report.OK() || report.Complete() {
		t.Fatalf("%v %v", err, report.Problems)
	}
	w.change = nil
	b := w.start(nil)
	if err := b.quiesce(); err != nil {
		t.Fatal(err)
	}
	b.close()
	w.mustCheck(4)
	if report, err := Verify(t.Context(), w.targets(), w.keys, nil); err != nil || len(report.Problems) > 0 {
		t.Fatalf("%v %v", err, report.Problems)
	}
}

// While a reader is at it, tails it has not come to are folded and deleted: it reads
// what stands in their place.
func TestReadingWhileTailsAreFolded(t *testing.T) {
	w := newWorld(t, 47)
	w.change = func(o *Options) { o.Grace = time.Nanosecond }
	a := w.start(nil)
	w.hot.append(3, 100)
	w.hot.seal()
	a.flushAll()
	for range 2 {
		w.hot.append(3, 100)
		a.flushAll()
	}
	r, err := w.readerOn(w.targets())
	if err != nil {
		t.Fatal(err)
	}
	for _, reader := range []*Reader{a.Reader(), r} {
		var got []byte
		for s, err := range reader.Spans(t.Context(), 1, 9) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, s.Frames...); s.First == 1 {
				w.hot.seal()
				w.hot.append(1, 10)
				a.flushAll()
				if err := a.quiesce(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if string(got) != string(w.hot.content(1, 9)) {
			t.Fatal("other bytes")
		}
	}
}
