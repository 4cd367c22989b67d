package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// more adds targets to the world, which archivers opened from now on know.
func (w *world) more(names ...string) (added []Target) {
	for _, name := range names {
		m := mem.New()
		w.stores = append(w.stores, m)
		w.faults = append(w.faults, bucket.NewFaults(m))
		added = append(added, Target{Name: name, Provider: name[:1], Region: "r", Bucket: named{w.faults[len(w.faults)-1], name}})
	}
	return added
}

// readable checks that everything committed is read back from targets.
func (w *world) readable(targets []Target) {
	w.t.Helper()
	r, err := w.readerOn(targets)
	if err != nil {
		w.t.Fatal(err)
	}
	got, first, last, err := readBack(w.t.Context(), r)
	if err != nil || first != 1 || last != w.hot.Committed() || string(got) != string(w.hot.content(1, last)) {
		w.t.Fatalf("[%d,%d]: %v", first, last, err)
	}
}

// busy fills the archive with a few sealed and tail objects.
func (w *world) busy(r *running) {
	for range 3 {
		w.hot.append(5, 400)
		w.hot.seal()
		r.flushAll()
	}
	w.hot.append(3, 400)
	r.flushAll()
	r.settled()
}

func TestPlacementPolicy(t *testing.T) {
	named := func(providers ...string) (out []Target) {
		for i, p := range providers {
			out = append(out, Target{Name: fmt.Sprintf("t%d", i), Provider: p})
		}
		return out
	}
	for _, c := range []struct {
		providers []string
		k, m      int
		ok        bool
	}{
		{[]string{"a", "a", "b", "b", "c", "c"}, 4, 2, true},
		{[]string{"a", "a", "a", "b", "c", "c"}, 4, 2, false},
		{[]string{"a", "a", "a", "b", "b", "c", "c"}, 4, 2, true}, // the third one at a is a spare
		{[]string{"", "", "", "", "", ""}, 4, 2, true},            // unknown ones stand alone
		{[]string{"a", "b", "c"}, 4, 2, false},
		{[]string{"a", "a", "a", "b", "b", "b", "c", "c", "c"}, 6, 3, true},
		{[]string{"a", "a"}, 2, 0, true},
	} {
		err := CheckPlacement(named(c.providers...), c.k, c.m)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrPlacement) {
			t.Errorf("%v at %d+%d: %v", c.providers, c.k, c.m, err)
		}
	}
	err := CheckPlacement(named("a", "a", "a", "b", "c", "c"), 4, 2)
	if !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "put 1 targets at other providers") {
		t.Errorf("the error does not help: %v", err)
	}
	if err := CheckPlacement(nil, 0, 2); !errors.Is(err, logcore.ErrInvalid) {
		t.Error(err)
	}
}

// Data goes to home and free targets, parity to dear ones, the same whatever the order of
// the configuration, and never more than m at a provider.
func TestPlacementByCost(t *testing.T) {
	var targets []Target
	for i, name := range []string{"a1", "a2", "a3", "b1", "b2", "c1", "c2"} {
		targets = append(targets, Target{Name: name, Provider: name[:1], Prices: Prices{Egress: float64(i % 3)}})
	}
	targets[6].Home = true
	want := []string{"c2", "a1", "b1", "a2", "b2", "c1"}
	for range 5 {
		remotes := newRemotes(targets, time.Second)
		slices.SortFunc(remotes, compareCost)
		var got []string
		for _, r := range choose(remotes, 4, 2) {
			got = append(got, r.Name)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		targets = append(targets[1:], targets[0])
	}
	few := choose(newRemotes(targets[:3], time.Second), 4, 2)
	if len(few) != 6 || few[2] == nil || few[3] != nil {
		t.Fatalf("%v", few)
	}
}

// A seventh target is added while the archiver runs, another one evacuated and removed,
// and at last only the new set is needed, also to take over.
func TestReplaceATargetLive(t *testing.T) {
	w := newWorld(t, 81)
	r := w.start(nil)
	w.busy(r)
	added := w.more("b3")
	if err := r.AddTarget(t.Context(), added[0]); err != nil {
		t.Fatal(err)
	}
	if got := r.state.Load().targets; !slices.Contains(got, "b3") || len(got) != 7 {
		t.Fatalf("%v", got)
	}
	if err := r.AddTarget(t.Context(), added[0]); err != nil {
		t.Fatalf("added again: %v", err)
	}
	other := added[0]
	other.Bucket = w.targets()[0].Bucket
	if err := r.AddTarget(t.Context(), other); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("another bucket under its name: %v", err)
	}
	if err := r.Evacuate(t.Context(), "nothing"); !errors.Is(err, ErrUnknownTarget) || !strings.Contains(err.Error(), "a1, a2") {
		t.Fatal(err)
	}
	if err := r.RemoveTarget(t.Context(), "b1"); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveTarget(t.Context(), "b1"); err != nil || !r.Removed("b1") || r.Removed("b2") {
		t.Fatalf("removed again: %v", err)
	}
	if got := r.Reader().Settings(); !slices.Equal(got.Targets, []string{"a1", "a2", "b2", "b3", "c1", "c2"}) || len(got.Leaving) != 0 || got.K != 4 || got.M != 2 {
		t.Fatalf("decided: %+v", got)
	}
	// With six left, no other one can be spared.
	if err := r.RemoveTarget(t.Context(), "c1"); !errors.Is(err, ErrPlacement) || !strings.Contains(err.Error(), "add") {
		t.Fatal(err)
	}
	w.hot.append(4, 100)
	r.flushAll()
	left := append(without(w.targets()[:6], 2), added...)
	w.readable(left)
	for _, status := range r.TargetStatus() {
		if status.Name == "b1" || status.Name == "b3" && (status.Fragments == 0 || !status.ManifestSynced) {
			t.Errorf("%+v", status)
		}
	}
	if err := r.AddTarget(t.Context(), w.targets()[2]); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "another name") {
		t.Fatalf("a name that was used: %v", err)
	}
	r.until("collected on the removed target", func() bool { return len(w.keysOn(2, "/fragment/")) == 0 })
	r.close()
	// Without the removed one, and with it still configured: it does not come back.
	for _, targets := range [][]Target{left, append(slices.Clone(left), w.targets()[2])} {
		o := w.options()
		o.Targets = targets
		a, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		next := run(t, a)
		w.hot.append(1, 100)
		next.flushAll()
		if s := next.state.Load(); len(s.targets) != 6 || slices.Contains(s.targets, "b1") {
			t.Fatalf("%v", s.targets)
		}
		next.close()
	}
	// Any two of the new set may be lost.
	for i := range left {
		for j := range i {
			w.readable(without(left, i, j))
		}
	}
	// A set that lacks one of the archive's is refused.
	o := w.options()
	o.Targets = append(slices.Clone(without(left, 0)), w.targets()[2])
	if _, err := Open(t.Context(), o); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "a1") {
		t.Fatal(err)
	}
}

// A target that is gone for good is evacuated from the other fragments.
func TestRemoveALostTarget(t *testing.T) {
	w := newWorld(t, 82)
	r := w.start(nil)
	w.busy(r)
	w.faults[4].Down()
	if err := r.AddTarget(t.Context(), w.more("d1")[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveTarget(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if st := r.Status(); st.Degraded != 0 {
		t.Fatalf("%+v", st)
	}
	r.close()
	w.readable(append(without(w.targets()[:6], 4), Target{Name: "d1", Provider: "d", Bucket: w.stores[6]}))
}

// A target that is configured anew is added by itself after the take-over.
func TestConfiguredTargetJoins(t *testing.T) {
	w := newWorld(t, 83)
	r := w.start(nil)
	w.busy(r)
	r.close()
	o := w.options()
	o.Targets = append(o.Targets, w.more("e1")...)
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r = run(t, a)
	r.until("joined", func() bool { return slices.Contains(r.state.Load().targets, "e1") })
	r.close()
}

// An archiver that did not see the set grow must not count a majority of the old one.
func TestOldSetIsFenced(t *testing.T) {
	w := newWorld(t, 84)
	old := w.start(nil)
	w.busy(old)
	o := w.options() // a higher epoch, with one target more
	o.Targets = append(o.Targets, w.more("d1")...)
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	next := run(t, a)
	next.until("joined", func() bool { return len(next.state.Load().targets) == 7 })
	w.hot.append(1, 100)
	if err := patience.Receive(t, "the old archiver ends", old.done); !errors.Is(err, logcore.ErrFenced) {
		t.Fatal(err)
	}
	next.flushAll()
	next.close()
}

// Everything is re-coded to 6+3 and back while entries come in; each object is readable
// at any time from k fragments, and the old fragments go only when the new ones are named.
func TestRecode(t *testing.T) {
	w := newWorld(t, 85)
	w.change = func(o *Options) { o.Grace = time.Millisecond }
	r := w.start(nil)
	w.busy(r)
	if err := r.SetCode(t.Context(), 6, 3); !errors.Is(err, ErrPlacement) {
		t.Fatal(err)
	}
	if err := r.SetCode(t.Context(), 0, 3); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatal(err)
	}
	for _, extra := range w.more("a3", "b3", "c3") {
		if err := r.AddTarget(t.Context(), extra); err != nil {
			t.Fatal(err)
		}
	}
	targets := r.targetsNow()
	for _, code := range [][2]int{{6, 3}, {4, 2}} {
		if err := r.SetCode(t.Context(), code[0], code[1]); err != nil {
			t.Fatal(err)
		}
		w.hot.append(2, 100)
		r.flushAll()
		r.until("re-coded", func() bool {
			w.readable(targets)
			return !slices.ContainsFunc(r.state.Load().live, func(o *object) bool { return o.K != code[0] || o.M != code[1] || o.placed() < o.K+o.M })
		})
		r.until("old fragments collected", func() bool { return w.onlyLive(r) == nil })
		w.readable(without(targets, 0, 4))
	}
	report, err := Verify(t.Context(), targets, w.keys, nil)
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("%+v, %v", report.Problems, err)
	}
	r.close()
}

// targetsNow returns the targets that the archiver knows.
func (r *running) targetsNow() (out []Target) {
	for _, remote := range r.all() {
		out = append(out, remote.Target)
	}
	return out
}

// onlyLive checks that the targets hold the fragments of live objects and no others.
func (w *world) onlyLive(r *running) error {
	s := r.state.Load()
	want := map[string]bool{}
	for _, o := range s.live {
		for i, f := range o.fragments {
			if f.target != "" {
				want[f.target+" "+o.name().key(testCluster, 0, i)] = true
			}
		}
	}
	for i, remote := range r.all() {
		for _, key := range w.keysOn(i, "/fragment/") {
			if !want[remote.Name+" "+key] {
				return fmt.Errorf("%s holds %s", remote.Name, key)
			}
			delete(want, remote.Name+" "+key)
		}
	}
	for place := range want {
		return fmt.Errorf("missing: %s", place)
	}
	return nil
}

// The key is changed while the archive goes on; what was signed before stays provable, by
// the old public key too, which vouches for the new one.
func TestKeyChange(t *testing.T) {
	w := newWorld(t, 86)
	r := w.start(nil)
	w.busy(r)
	r.close()
	before := w.keys
	w.keys = newKeyring([][32]byte{before.keys[before.Current()], {7, 7}})
	r = w.start(nil)
	r.until("signed anew", func() bool { return len(r.state.Load().signers) == 2 })
	w.busy(r)
	r.until("rolled up", func() bool { return r.state.Load().base > r.state.Load().signers[1].since })
	r.close()
	w.mustCheck(w.hot.Committed())
	public := map[KeyID]PublicKey{}
	for _, id := range w.keys.IDs() {
		var err error
		if public[id], err = SigningKey(t.Context(), w.keys, id); err != nil {
			t.Fatal(err)
		}
	}
	for _, pinned := range []PublicKeys{{public[before.Current()]}, {public[before.Current()], public[w.keys.Current()]}} {
		report, err := Verify(t.Context(), w.targets(), pinned, nil)
		if err != nil || len(report.Problems) > 0 {
			t.Fatalf("%+v, %v", report.Problems, err)
		}
	}
	// The new key alone proves what it signed, which is all that counts by now.
	r2, err := OpenReader(t.Context(), ReaderOptions{Targets: w.targets(), Keys: PublicKeys{public[w.keys.Current()]}, Logger: quiet()})
	if err != nil || r2.Covered() != w.hot.Committed() {
		t.Fatal(err)
	}
	// The old key file alone is told what it lacks.
	_, err = OpenReader(context.Background(), ReaderOptions{Targets: w.targets(), Keys: before, Logger: quiet()})
	if !errors.Is(err, ErrKeyNotFound) || !strings.Contains(err.Error(), w.keys.Current().String()) {
		t.Fatal(err)
	}
	o := w.options()
	o.Keys = before
	if _, err := Open(context.Background(), o); !errors.Is(err, ErrKeyNotFound) {
		t.Fatal(err)
	}
}
