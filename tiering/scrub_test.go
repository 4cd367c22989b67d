package tiering

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// priced gives the targets prices: c is dear to read.
func priced(o *Options) {
	for i := range o.Targets {
		o.Targets[i].Prices = Prices{Storage: 0.02, Gets: 0.0004}
		if o.Targets[i].Provider == "c" {
			o.Targets[i].Prices.Egress = 0.09
		}
	}
}

// A scrub finds what nobody reads, also a fragment replaced by a whole one of another
// object, and writes it anew.
func TestScrubFindsAndRepairs(t *testing.T) {
	w := newWorld(t, 91)
	r := w.start(nil)
	w.busy(r)
	key := w.keysOn(1, "/fragment/")[0]
	w.rewriteObject(1, key, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	w.rewriteObject(3, w.keysOn(3, "/fragment/")[1], func([]byte) []byte { return nil })
	other, _ := w.stores[4].Get(t.Context(), w.keysOn(4, "/fragment/")[1], 0, -1)
	w.rewriteObject(4, w.keysOn(4, "/fragment/")[0], func([]byte) []byte { return other })
	before := counterValue(r.o.Corruptions)
	report, err := r.Scrub(t.Context(), ScrubOptions{})
	if err != nil || report.Damaged != 3 || report.Repaired != 3 || !report.Complete || report.Objects != len(r.state.Load().live) {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, name := range []string{"a2", "b2", "c1"} {
		if !slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Target == name && p.Key != "" }) {
			t.Errorf("%s is not named: %v", name, report.Problems)
		}
	}
	if counterValue(r.o.Corruptions) != before+3 || counterValue(r.scrubs.damaged) != 3 {
		t.Error("what was found is not counted")
	}
	if report, err = r.Scrub(t.Context(), ScrubOptions{}); err != nil || report.Damaged != 0 || len(report.Problems) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	r.close()
}

// The position survives the archiver, the day's budget too; bytes and money are bounds.
func TestScrubWithinABudget(t *testing.T) {
	w := newWorld(t, 92)
	w.change = priced
	r := w.start(nil)
	w.busy(r)
	live := r.state.Load().live
	one := live[0].FragmentBytes() * 6
	var seen logcore.LSN
	read, runs := 0, 0
	for complete := false; !complete; runs++ {
		report, err := r.Scrub(t.Context(), ScrubOptions{Budget: ScrubBudget{Bytes: 2 * one}})
		if err != nil || report.Bytes > 2*one || report.Money <= 0 {
			t.Fatalf("%+v, %v", report, err)
		}
		if report.From != seen {
			t.Fatalf("began at %d, the last one stopped at %d", report.From, seen)
		}
		seen, read, complete = report.Next, read+report.Objects, report.Complete
		if runs == 1 { // another archiver goes on where this one stopped
			r.close()
			r = w.start(nil)
		}
	}
	if read != len(live) || runs < 2 {
		t.Fatalf("%d objects in %d runs, there are %d", read, runs, len(live))
	}
	spent := parseScrub(r.state.Load().settings[settingScrub])
	if spent.bytes < one*int64(len(live)-1) || spent.money <= 0 || spent.on(time.Now().Add(48*time.Hour)).bytes != 0 {
		t.Fatalf("%+v", spent)
	}
	report, err := r.Scrub(t.Context(), ScrubOptions{Budget: ScrubBudget{Money: 1e-12}})
	if !errors.Is(err, logcore.ErrInvalid) || report.Objects != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	r.close()
	offline, err := ScrubTargets(t.Context(), ReaderOptions{Targets: w.targets(), Keys: w.keys, Logger: quiet()}, ScrubOptions{Budget: ScrubBudget{Bytes: one}})
	if err != nil || offline.Objects == 0 || offline.Complete || offline.Next == 0 {
		t.Fatalf("%+v, %v", offline, err)
	}
	offline, err = ScrubTargets(t.Context(), ReaderOptions{Targets: w.targets(), Keys: w.keys, Logger: quiet()}, ScrubOptions{From: offline.Next})
	if err != nil || !offline.Complete {
		t.Fatalf("%+v, %v", offline, err)
	}
}

// With a target away the scrub reads the others, says so, and takes nothing for damage.
func TestScrubWithATargetAway(t *testing.T) {
	w := newWorld(t, 93)
	r := w.start(nil)
	w.busy(r)
	w.faults[2].Down()
	report, err := r.Scrub(t.Context(), ScrubOptions{})
	if err != nil || report.Damaged != 0 || report.Unread == 0 || !strings.Contains(report.Summary(), "0 damaged") {
		t.Fatalf("%+v, %v", report, err)
	}
	w.faults[2].Up()
	r.close()
}

// A target that is emptied while it answers well is noticed by asking for one fragment now
// and then, long before the next audit.
func TestEmptiedTargetIsNoticedByASpotCheck(t *testing.T) {
	w := newWorld(t, 94)
	a, err := openWithHook(t.Context(), w.options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.spotEvery = 5 * time.Millisecond
	r := run(t, a)
	w.busy(r)
	r.until("whole", func() bool { return r.Status().Degraded == 0 })
	w.empty(1)
	r.until("filled again", func() bool {
		poke(r.scrubWake)
		return len(w.keysOn(1, "/fragment/")) == len(w.keysOn(0, "/fragment/")) && r.Status().Degraded == 0
	})
	r.close()
}

// Fragments are locked where that was shown to work, for as long as retention and holds
// want; what is locked is not collected, and nothing stops for that.
func TestObjectLock(t *testing.T) {
	w := newWorld(t, 95)
	var asked, kept atomic.Int64
	w.change = func(o *Options) {
		o.Grace = time.Millisecond
		o.ProbeLock = func(context.Context, bucket.Bucket) (bool, error) { return asked.Add(1) != 2, nil }
		for i := range o.Targets {
			o.Targets[i].Bucket = retaining{o.Targets[i].Bucket, countingRetainer{w.stores[i].(bucket.Retainer), &kept}}
		}
	}
	r := w.start(nil)
	if err := r.SetLock(t.Context(), time.Second); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatal(err)
	}
	w.busy(r)
	if err := r.SetHold(t.Context(), 0, "case 17"); err != nil {
		t.Fatal(err)
	}
	locked := func(i int) (n int) {
		for _, o := range r.state.Load().live {
			if o.kind() == KindSealed && errors.Is(w.stores[i].Delete(t.Context(), o.name().key(testCluster, 0, i)), bucket.ErrRetention) {
				n++
			}
		}
		return n
	}
	r.until("locked", func() bool { poke(r.scrubWake); return asked.Load() >= 6 && kept.Load() >= 15 })
	r.close()
	if locked(0) < 3 {
		t.Error("fragments are not locked")
	}
	if n := locked(1); n != 0 {
		t.Errorf("%d fragments locked where the probe was deleted", n)
	}
}

// countingRetainer counts what is locked.
type countingRetainer struct {
	bucket.Retainer
	kept *atomic.Int64
}

func (c countingRetainer) Retain(ctx context.Context, key string, until time.Time) error {
	err := c.Retainer.Retain(ctx, key, until)
	if err == nil {
		c.kept.Add(1)
	}
	return err
}

// retaining puts a store's retention beside its faults.
type retaining struct {
	bucket.Bucket
	bucket.Retainer
}
