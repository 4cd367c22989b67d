package tiering

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// What the targets may be like while an archiver crashes: at most m of them are not well.
var targetStates = map[string]func(w *world){
	"all well":  func(*world) {},
	"one down":  func(w *world) { w.faults[4].Down() },
	"two down":  func(w *world) { w.faults[1].Down(); w.faults[4].Down() },
	"one slow":  func(w *world) { w.faults[4].Add(bucket.Fault{Effect: bucket.Slow(3 * time.Millisecond)}) },
	"one hangs": func(w *world) { w.faults[4].Add(bucket.Fault{Op: bucket.OpPut, Effect: bucket.Hang()}) },
	"stored, reported lost": func(w *world) {
		for _, i := range []int{0, 3} {
			w.faults[i].Add(bucket.Fault{Op: bucket.OpPut, Effect: bucket.DoneButLost(nil)})
		}
	},
	"half a put": func(w *world) {
		for _, i := range []int{2, 5} {
			w.faults[i].Add(bucket.Fault{Op: bucket.OpPut, Count: 3, Effect: bucket.HalfPut(nil)})
		}
	},
	"stale lists": func(w *world) {
		for _, f := range w.faults {
			f.Add(staleRecords())
		}
	},
}

// The steps between a segment that was sealed and its being trimmed, with how many of each
// there are for one object: the put of each fragment, the record at each target.
var pipelineSteps = []struct {
	step string
	nths []int
}{
	{"read", []int{1}}, {"seal", []int{1}}, {"put", []int{1, 2, 3, 4, 5, 6}}, {"read-back", []int{1, 3, 6}},
	{"record", []int{1}}, {"record-put", []int{1, 2, 3, 4, 5, 6}}, {"record-read-back", []int{1, 4}}, {"fence", []int{1}}, {"publish", []int{1}}, {"trim", []int{1}},
}

// TestCrashAtEveryStepInEveryTargetState (F16) is every pair of a step of the pipeline and
// a state of the targets: what was covered before the crash stays so, another archiver ends
// with everything archived, each fragment once, and nothing left behind.
func TestCrashAtEveryStepInEveryTargetState(t *testing.T) {
	pairs := 0
	for state, set := range targetStates {
		for _, s := range pipelineSteps {
			for _, nth := range s.nths {
				pairs++
				t.Run(fmt.Sprintf("%s/%s-%d", state, s.step, nth), func(t *testing.T) {
					t.Parallel()
					crashPair(t, set, s.step, nth)
				})
			}
		}
	}
	if pairs != len(targetStates)*23 {
		t.Errorf("%d pairs", pairs)
	}
}

func crashPair(t *testing.T, set func(w *world), step string, nth int) {
	w := crashWorld(t)
	w.change = func(o *Options) {
		o.Grace, o.MaxAge, o.OpTimeout = time.Nanosecond, 4*time.Millisecond, 500*time.Millisecond
	}
	w.hot.append(3, 300)
	first := w.start(nil)
	first.flushAll()
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	set(w)
	// From here on the step is counted: taking over is none of the pipeline's.
	fp := &failpoints{}
	a, err := openWithHook(t.Context(), w.options(), fp.hook)
	if err != nil {
		t.Fatal(err)
	}
	fp.mu.Lock()
	fp.seen, fp.step, fp.nth = nil, step, nth
	fp.mu.Unlock()
	r := run(t, a)
	crash := func() error {
		w.hot.append(2, 300)
		if err := r.flushOrDie(); err != nil {
			return err
		}
		w.hot.seal()
		w.hot.append(1, 200)
		return r.flushOrDie()
	}
	crashed := crash() != nil
	for deadline := time.Now().Add(400 * time.Millisecond); !crashed && time.Now().Before(deadline); { // folding and trimming come later
		select {
		case err := <-r.done:
			r.done <- err
			crashed = true
		case <-time.After(time.Millisecond):
			poke(r.wake)
		}
	}
	crashed = errors.Is(r.close(), errCrash) || crashed
	covered := r.Covered()
	fp.mu.Lock()
	if dead := fp.dead; dead != crashed {
		t.Errorf("crashed %v, the failpoint was reached %v", crashed, dead)
	}
	fp.mu.Unlock()
	for _, f := range w.faults {
		f.Up()
	}
	// Before the repair only those may be lost that were not well.
	if err := w.checkWithout(covered, 1, 4); err != nil {
		t.Fatal(err)
	}
	b := w.start(nil)
	if got := b.Covered(); got < covered {
		t.Fatalf("covered %d before the crash, %d after", covered, got)
	}
	b.flushAll()
	if err := b.quiesce(); err != nil {
		t.Fatal(err)
	}
	w.mustCheck(w.hot.Committed())
	noLeftovers(t, w, b)
	oncePerEntry(t, b)
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
}

// oncePerEntry checks that no entry of a sealed segment is in two live objects.
func oncePerEntry(t *testing.T, a *running) {
	t.Helper()
	s := a.state.Load()
	var last logcore.LSN
	for _, o := range s.path {
		if o.First != last+1 {
			t.Errorf("%s follows entry %d", o.describe(), last)
		}
		last = o.Last
	}
	for _, o := range s.live {
		if !slices.Contains(s.path, o) {
			t.Errorf("%s is live twice", o.describe())
		}
	}
}

// A segment that makes many objects is archived several at a time: a crash at any step of
// any of them leaves what was committed, in order and without a gap, and the next archiver
// goes on from there.
func TestCrashInARunOfObjects(t *testing.T) {
	for _, s := range []struct {
		step string
		nths []int
	}{{"read", []int{2, 5}}, {"seal", []int{1, 3, 5}}, {"put", []int{3, 9, 20, 30}}, {"read-back", []int{7, 25}}, {"record", []int{2, 4}}, {"fence", []int{3}}, {"publish", []int{1, 4}}} {
		for _, nth := range s.nths {
			t.Run(fmt.Sprintf("%s-%d", s.step, nth), func(t *testing.T) {
				t.Parallel()
				w := crashWorld(t)
				w.hot.append(15, 300_000)
				w.hot.seal()
				w.hot.append(1, 100)
				fp := &failpoints{}
				a, err := openWithHook(t.Context(), w.options(), fp.hook)
				if err != nil {
					t.Fatal(err)
				}
				fp.mu.Lock()
				fp.seen, fp.step, fp.nth = nil, s.step, nth
				fp.mu.Unlock()
				r := run(t, a)
				if r.flushOrDie() == nil {
					t.Fatal("never reached")
				}
				r.close()
				covered := r.Covered()
				if err := w.check(covered); err != nil {
					t.Fatal(err)
				}
				b := w.start(nil)
				if b.Covered() < covered {
					t.Fatalf("covered %d before the crash, %d after", covered, b.Covered())
				}
				b.flushAll()
				if err := b.quiesce(); err != nil {
					t.Fatal(err)
				}
				if n := len(b.state.Load().path); n < 6 {
					t.Fatalf("%d objects: no run", n)
				}
				w.mustCheck(w.hot.Committed())
				noLeftovers(t, w, b)
				oncePerEntry(t, b)
				if err := b.close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
