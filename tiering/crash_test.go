package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// failpoints counts the steps of an archiver and stops it for good at one of them: from
// then on every step fails, as nothing happens any more in a dead process.
type failpoints struct {
	mu    sync.Mutex
	seen  map[string]int
	step  string // where to stop
	nth   int
	dead  bool
	doing func(step string, nth int) // runs before each step, for planted bugs
}

func (f *failpoints) hook(step string) error {
	f.mu.Lock()
	if f.seen == nil {
		f.seen = map[string]int{}
	}
	f.seen[step]++
	nth := f.seen[step]
	if step == f.step && nth == f.nth {
		f.dead = true
	}
	dead, doing := f.dead, f.doing
	f.mu.Unlock()
	if dead {
		return errCrash
	}
	if doing != nil {
		doing(step, nth)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.dead {
			return errCrash
		}
	}
	return nil
}

func (f *failpoints) die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// life is what every failpoint is tried in: tails, folding of tails, a sealed segment, a
// target that goes and comes back, trimming, rollups, purging.
func life(w *world, hook func(string) error) (a *running, err error) {
	defer func() {
		if errors.Is(err, errCrash) {
			err = nil
		}
	}()
	archiver, err := openWithHook(w.t.Context(), w.options(), hook)
	if err != nil {
		return nil, err
	}
	a = run(w.t, archiver)
	flush := func() error { return a.flushOrDie() }
	for round := range 3 {
		for range testFanIn + 1 {
			w.hot.append(1+round, 300)
			if err := flush(); err != nil {
				return a, err
			}
		}
		if round == 1 {
			w.faults[4].Up()
		}
		w.hot.seal()
		w.hot.append(1, 200)
		if err := flush(); err != nil {
			return a, err
		}
		if round == 0 {
			w.faults[4].Down()
		}
	}
	return a, a.quiesce()
}

// flushOrDie flushes, unless the archiver stops before.
func (r *running) flushOrDie() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	flushed := make(chan error, 1)
	go func() { flushed <- r.Flush(ctx, r.o.Source.Committed()) }()
	select {
	case err := <-flushed:
		return err
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(30 * time.Second):
		return fmt.Errorf("stuck: %+v", r.Status())
	}
}

// quiesce waits until everything is folded, placed, trimmed and tidied up, or the
// archiver stops.
func (r *running) quiesce() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		select {
		case err := <-r.done:
			r.done <- err
			return err
		default:
		}
		sealed := slices.ContainsFunc(r.o.Source.Segments(), func(s Segment) bool { return s.Sealed })
		r.mu.Lock()
		unswept := len(r.unswept)
		r.mu.Unlock()
		due, _ := r.duePurges(r.state.Load())
		if st := r.Status(); !sealed && !r.recordsUnderWay() && r.allSynced() && st.Degraded == 0 && st.Covered == r.o.Source.Committed() && unswept == 0 && len(due) == 0 &&
			findRun(r.state.Load().path, r.fanIn, r.o.objectBytesMax()) == nil && // a tail that is folded is collected at once here
			len(r.chainNow()) <= max(st.Objects/4, r.rollupMin) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("never quiet: %+v, %d unswept, %d due", r.Status(), unswept, len(due))
		}
		poke(r.wake)
		poke(r.tidy)
		time.Sleep(time.Millisecond)
	}
}

// allSynced reports whether every target of the archive holds the whole manifest: a record
// that a majority has may not even have begun its way to the others, on a busy machine.
func (r *running) allSynced() bool {
	s := r.state.Load()
	return !slices.ContainsFunc(r.TargetStatus(), func(t TargetStatus) bool {
		return !t.ManifestSynced && slices.Contains(s.targets, t.Name)
	})
}

// recordsUnderWay reports whether a record is on its way to a target that nobody waits for.
func (r *running) recordsUnderWay() bool {
	return slices.ContainsFunc(r.all(), func(t *remote) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return len(t.writing) > 0
	})
}

func crashWorld(t *testing.T) *world {
	w := newWorld(t, 3)
	w.change = func(o *Options) { o.Grace, o.MaxAge = time.Nanosecond, 4*time.Millisecond }
	return w
}

// TestCrashAtEveryStep stops the archiver at every step, at its first, second, middle
// and last occurrence, checks what is then covered, and starts another one.
func TestCrashAtEveryStep(t *testing.T) {
	probe := &failpoints{}
	w := crashWorld(t)
	if a, err := life(w, probe.hook); err != nil {
		t.Fatal(err)
	} else {
		a.close()
	}
	for _, want := range []string{"claim", "adopt", "read", "seal", "put", "read-back", "record", "record-put", "record-read-back",
		"fence", "publish", "trim", "sync", "repair", "rollup", "purge", "purge-record", "sweep"} {
		if probe.seen[want] == 0 {
			t.Errorf("step %s never happens in this life: it is not tested", want)
		}
	}
	for step, n := range probe.seen {
		nths := []int{1, 2, n / 2, n - 1}
		slices.Sort(nths)
		for _, nth := range slices.Compact(nths) {
			if nth >= 1 {
				t.Run(fmt.Sprintf("%s-%d", step, nth), func(t *testing.T) {
					t.Parallel()
					crashAndRestart(t, step, nth)
				})
			}
		}
	}
}

func crashAndRestart(t *testing.T, step string, nth int) {
	w := crashWorld(t)
	fp := &failpoints{step: step, nth: nth}
	a, err := life(w, fp.hook)
	if err != nil {
		t.Fatal(err)
	}
	var covered logcore.LSN
	if a != nil {
		a.close()
		covered = a.Covered()
	}
	for _, f := range w.faults {
		f.Up()
	}
	// Objects archived while c1 was away have no fragment there: it is one of the two lost.
	if err := w.check(covered, 4); err != nil {
		t.Fatal(err)
	}

	w.hot.append(2, 300)
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
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
}

// noLeftovers checks that the targets hold what the manifest names, each fragment once,
// and nothing else.
func noLeftovers(t *testing.T, w *world, a *running) {
	t.Helper()
	s := a.state.Load()
	want := map[string]int{}
	for _, o := range s.live {
		for i, f := range o.fragments {
			want[f.target+" "+o.name().key(testCluster, 0, i)]++
		}
	}
	for i := range w.stores {
		for _, key := range w.keysOn(i, "/fragment/") {
			if want[targetNames[i]+" "+key] != 1 {
				t.Errorf("left behind on %s: %s", targetNames[i], key)
			}
			delete(want, targetNames[i]+" "+key)
		}
	}
	for k := range want {
		t.Errorf("not there: %s", k)
	}
	if report, err := Verify(t.Context(), w.bare(), w.keys, nil); err != nil || len(report.Problems) > 0 {
		t.Errorf("verify: %v %v", err, report.Problems)
	}
}

// The oracle must find an archiver that trims before it has verified, and one that
// writes the manifest before the fragments.
func TestPlantedBugsAreFound(t *testing.T) {
	for name, plant := range map[string]func(w *world, a **Archiver, fp *failpoints) func(step string, nth int){
		"trim before verify": func(w *world, a **Archiver, fp *failpoints) func(string, int) {
			return func(step string, nth int) {
				if step == "read-back" {
					w.hot.Trim(context.Background(), w.hot.Committed())
				}
			}
		},
		"manifest before fragments": func(w *world, a **Archiver, fp *failpoints) func(string, int) {
			var once sync.Once
			return func(step string, nth int) {
				if step == "put" && nth > 20 {
					once.Do(func() { commitUnplaced(w, *a); fp.die() })
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := ""
			for nth := 1; nth <= 40 && found == ""; nth++ {
				w := crashWorld(t)
				var archiver *Archiver
				fp := &failpoints{step: "put", nth: nth}
				fp.doing = plant(w, &archiver, fp)
				var err error
				if archiver, err = openWithHook(t.Context(), w.options(), fp.hook); err != nil {
					t.Fatal(err)
				}
				a := run(t, archiver)
				for range 6 {
					w.hot.append(1, 100)
					if a.flushOrDie() != nil {
						break
					}
				}
				a.close()
				if err := w.check(a.Covered()); err != nil {
					found = err.Error()
				}
			}
			if found == "" {
				t.Fatal("the harness did not find it: the harness is broken")
			}
			t.Logf("found: %s", strings.TrimSpace(found))
		})
	}
}

// commitUnplaced commits the next span as if its fragments were placed.
func commitUnplaced(w *world, a *Archiver) {
	ctx := context.Background()
	next := a.Covered() + 1
	span, err := w.hot.ReadSpan(ctx, next, w.hot.Committed(), 1<<20)
	if err != nil {
		return
	}
	o, _, err := a.sealAndCode(ctx, &making{span: span, kind: KindTail})
	if err != nil {
		return
	}
	for i := range o.fragments {
		o.fragments[i].target = a.all()[i].Name
	}
	_ = a.commit(ctx, func(s *state) *record { return s.change(a.o.Epoch, a.targetNames(), o) })
}
