package tiering

import (
	"context"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/patience"
)

// empty removes everything from a target, as an unmounted file system or a deleted
// bucket that was made anew shows itself.
func (w *world) empty(targets ...int) {
	w.t.Helper()
	for _, i := range targets {
		for _, key := range w.keysOn(i, "") {
			if err := w.stores[i].Delete(w.t.Context(), key); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// onlyTrimWhole makes the test fail when the hot tier may trim what is not readable from
// any four targets at that moment.
func (w *world) onlyTrimWhole() {
	w.hot.onTrim = func(upTo logcore.LSN) {
		w.hot.mu.Unlock() // Trim holds it
		defer w.hot.mu.Lock()
		if upTo == 0 {
			return
		}
		if err := w.check(upTo); err != nil {
			w.t.Errorf("trimming up to %d: %v", upTo, err)
		}
	}
}

// A segment is archived, and before it is trimmed targets lose everything: while the
// service is stopped, or while it runs. The hot tier must keep the segment until every
// fragment is back, even when fewer than k are left.
func TestNothingIsTrimmedOnFragmentsThatAreGone(t *testing.T) {
	for name, lost := range map[string][]int{"two": {0, 4}, "three": {0, 1, 2}} {
		for _, running := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " while stopped", true: " while running"}[running], func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 70)
				a := w.start(nil)
				w.hot.append(10, 500)
				a.flushAll()
				a.until("whole", func() bool { return a.Status().Degraded == 0 })
				if !running {
					a.close()
				}
				w.empty(lost...)
				w.onlyTrimWhole()
				w.hot.seal()
				w.hot.append(2, 100)
				if !running {
					a = w.start(nil)
				}
				a.flushAll()
				if err := a.quiesce(); err != nil {
					t.Fatal(err)
				}
				a.settled()
				w.mustCheck(12)
				a.until("the manifest is whole on all", func() bool {
					for _, st := range a.TargetStatus() {
						if !st.ManifestSynced || !st.Healthy || st.Missing > 0 {
							return false
						}
					}
					return true
				})
				a.close()
			})
		}
	}
}

// All of a segment was placed, then vanished before the archiver that finds the segment
// complete comes to trim it: the state alone must not do.
func TestTrimAsksTheTargets(t *testing.T) {
	w := newWorld(t, 71)
	w.hot.append(10, 500)
	w.hot.seal()
	w.hot.append(2, 100)
	fp := &failpoints{step: "trim", nth: 1} // complete and placed, not trimmed
	a := w.start(fp.hook)
	patience.Receive(t, "the archiver ends", a.done)
	a.done <- nil
	if !a.state.Load().segmentComplete(1) || w.hot.trimmedTo() != 0 {
		t.Fatalf("the segment is not complete: %+v", a.Status())
	}
	w.empty(3, 4, 5)
	w.onlyTrimWhole()
	b := w.start(nil)
	b.flushAll()
	b.settled()
	w.mustCheck(12)
	b.close()
}

// The hot tier was told that it may trim and has not done so yet when fragments vanish:
// the next look takes it back.
func TestTrimIsTakenBack(t *testing.T) {
	w := newWorld(t, 72)
	keeps := &keepingHot{hot: w.hot}
	w.change = func(o *Options) { o.Source = keeps }
	a, err := openWithHook(t.Context(), w.options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.recheck = time.Millisecond
	r := run(t, a)
	w.hot.append(10, 500)
	w.hot.seal()
	w.hot.append(2, 100)
	r.flushAll()
	r.until("told to trim", func() bool { return keeps.told() == 10 })
	for i := range 3 {
		w.faults[i].Down() // nothing is placed anew there for now
	}
	r.until("taken back", func() bool { return keeps.told() == 0 })
	w.empty(0, 1, 2)
	for i := range 3 {
		w.faults[i].Up()
	}
	r.until("told again", func() bool { return keeps.told() == 10 })
	r.until("filled again", func() bool { return w.check(12) == nil })
	r.close()
}

// keepingHot keeps what it is told that it may trim.
type keepingHot struct {
	*hot
	upTo logcore.LSN // guarded by hot.mu
}

func (h *keepingHot) Trim(_ context.Context, upTo logcore.LSN) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.upTo = upTo
	return nil
}

func (h *keepingHot) told() logcore.LSN { h.mu.Lock(); defer h.mu.Unlock(); return h.upTo }

// A target that was emptied while it was away is audited when it is back.
func TestReturnedTargetIsAudited(t *testing.T) {
	w := newWorld(t, 73)
	a := w.start(nil)
	w.hot.append(10, 500)
	a.flushAll()
	a.until("whole", func() bool { return a.Status().Degraded == 0 })
	w.faults[2].Down()
	w.hot.append(1, 100)
	a.flushAll()
	w.empty(2)
	w.faults[2].Up()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	a.until("filled again", func() bool { return w.check(11) == nil && a.Status().Degraded == 0 })
	noLeftovers(t, w, a)
	a.close()
}

// A target loses everything while it answers all calls, and nothing is to be trimmed:
// the audit finds it all the same.
func TestEmptiedTargetIsFoundInTime(t *testing.T) {
	w := newWorld(t, 74)
	a, err := openWithHook(t.Context(), w.options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.recheck = 10 * time.Millisecond
	r := run(t, a)
	w.hot.append(10, 500)
	r.flushAll()
	r.until("whole", func() bool { return r.Status().Degraded == 0 })
	w.empty(1, 3, 5)
	r.until("filled again", func() bool { return w.check(10) == nil && r.Status().Degraded == 0 })
	r.close()
}
