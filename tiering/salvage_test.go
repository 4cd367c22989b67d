package tiering

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

func (w *world) readerOptions() ReaderOptions {
	return ReaderOptions{Targets: w.targets(), Keys: w.keys, Logger: quiet()}
}

// loseManifests removes every record and claim on every target.
func (w *world) loseManifests() {
	for i := range w.stores {
		for _, part := range []string{"/manifest/", "/claim/"} {
			for _, key := range w.keysOn(i, part) {
				w.rewriteObject(i, key, func([]byte) []byte { return nil })
			}
		}
	}
}

// Every manifest on every target is lost, with two targets and a fragment besides: the
// fragments tell all of it again, and the archive goes on.
func TestSalvage(t *testing.T) {
	w := newWorld(t, 111)
	r := w.start(nil)
	w.busy(r)
	r.close()
	if _, err := Salvage(t.Context(), w.readerOptions(), nil); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "verify --repair") {
		t.Fatalf("beside a manifest: %v", err)
	}
	w.loseManifests()
	if _, err := w.readerOn(w.targets()); !errors.Is(err, ErrNoArchive) {
		t.Fatal(err)
	}
	w.rewriteObject(0, w.keysOn(0, "/fragment/")[0], func(b []byte) []byte { b[len(b)-9] ^= 4; return b })
	w.faults[3].Down()
	o := w.readerOptions()
	o.Keys = PublicKeys{{1}}
	if _, err := Salvage(t.Context(), o, nil); !errors.Is(err, ErrKeyNotFound) {
		t.Fatalf("without the key: %v", err)
	}
	steps := 0
	report, err := Salvage(t.Context(), w.readerOptions(), func(SalvageReport) { steps++ })
	if err != nil || report.Covered != w.hot.Committed() || report.First != 1 || len(report.Gaps) > 0 || len(report.Silent) != 1 || steps < report.Objects {
		t.Fatalf("%+v, %v", report, err)
	}
	w.faults[3].Up()
	w.readable(without(w.targets(), 3))
	next := w.start(nil)
	if why := next.state.Load().held(1); !strings.Contains(why, "rebuilt") {
		t.Errorf("what may be under hold is not: %q", why)
	}
	w.hot.append(3, 200)
	next.flushAll()
	next.until("whole again", func() bool { return next.Status().Degraded == 0 })
	if _, err := next.Scrub(t.Context(), ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	next.close()
	verified, err := Verify(t.Context(), w.targets(), w.keys, nil)
	if err != nil || !verified.OK() {
		t.Fatalf("%v, %v", verified.Problems, err)
	}
	w.mustCheck(w.hot.Committed())
}

// What was compacted does not come back from the fragments of the old object, and what is
// missing in the middle is named.
func TestSalvageAfterCompaction(t *testing.T) {
	w, c, r := compactWorld(t, 112, time.Hour) // the old fragments are still there
	c.mu.Lock()
	c.deleted = 1
	c.mu.Unlock()
	if report, err := r.Compact(t.Context(), CompactOptions{}); err != nil || report.Rewritten != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	for l := logcore.LSN(1); l <= 15; l += 2 {
		c.erased[l] = true
	}
	middle := r.state.Load().path[1]
	r.close()
	w.loseManifests()
	if report, err := Salvage(t.Context(), w.readerOptions(), nil); err != nil || report.Superseded == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	c.check(t, w)
	w.loseManifests()
	for i := range w.stores {
		for _, key := range w.keysOn(i, "/fragment/") {
			if n, _, _ := parseFragmentKey(testCluster, 0, key); n.segment == middle.SegmentFirst && i < 3 {
				w.rewriteObject(i, key, func([]byte) []byte { return nil })
			}
		}
	}
	report, err := Salvage(t.Context(), w.readerOptions(), nil)
	if err != nil || len(report.Gaps) != 1 || report.Gaps[0] != (LSNRange{middle.First, middle.Last}) || report.Covered != middle.First-1 {
		t.Fatalf("%+v, %v", report, err)
	}
}

// An insider edits, cuts, rolls back, forks or swaps anything on one target: verification
// names that target each time, and reading from all of them gives the true bytes.
func TestEveryKindOfObjectMutated(t *testing.T) {
	w := newWorld(t, 113)
	r := w.start(nil)
	w.busy(r)
	r.close()
	const victim = 2
	kinds := map[string]string{"fragment": "/fragment/", "record": "/manifest/", "claim": "/claim/"}
	for kind, part := range kinds {
		keys := w.keysOn(victim, part)
		last := keys[len(keys)-1]
		for name, mutate := range map[string]func(){
			"edited":    func() { w.rewriteObject(victim, last, func(b []byte) []byte { b[len(b)/3] ^= 0x40; return b }) },
			"cut":       func() { w.rewriteObject(victim, last, func(b []byte) []byte { return b[:len(b)-1] }) },
			"emptied":   func() { w.rewriteObject(victim, last, func(b []byte) []byte { return b[:0] }) },
			"lengthen":  func() { w.rewriteObject(victim, last, func(b []byte) []byte { return append(b, 0) }) },
			"lost":      func() { w.rewriteObject(victim, last, func([]byte) []byte { return nil }) },
			"swapped":   func() { w.swap(victim, last, keys[0]) },
			"rolled":    func() { w.rollBack(victim, part) },
			"exchanged": func() { w.replaceWith(victim, last, w.other(kind)) },
		} {
			if kind == "claim" && (name == "lost" || name == "swapped" || name == "rolled") || name == "swapped" && len(keys) < 2 {
				continue // there is one claim, and it may be absent: it counts only while a majority has it
			}
			t.Run(kind+" "+name, func(t *testing.T) {
				undo := w.copyOf(victim)
				defer undo()
				mutate()
				report, err := Verify(t.Context(), w.targets(), w.keys, nil)
				if err != nil || report.OK() && !w.told(report, targetNames[victim]) {
					t.Fatalf("not found: %v, %v", report.Problems, err)
				}
				for _, p := range report.Problems {
					if p.Target != targetNames[victim] {
						t.Errorf("another one is blamed: %v", p)
					}
				}
				w.readable(w.targets())
			})
		}
	}
}

func (w *world) told(report VerifyReport, target string) bool {
	for _, p := range report.Problems {
		if p.Target == target && p.Kind != ProblemOrphan {
			return true
		}
	}
	return false
}

// copyOf remembers what a target holds, and returns how to bring it back.
func (w *world) copyOf(i int) (undo func()) {
	held := map[string][]byte{}
	for _, key := range w.keysOn(i, "") {
		b, err := w.stores[i].Get(w.t.Context(), key, 0, -1)
		if err != nil {
			w.t.Fatal(err)
		}
		held[key] = bytes.Clone(b)
	}
	return func() {
		for _, key := range w.keysOn(i, "") {
			if err := w.stores[i].Delete(w.t.Context(), key); err != nil {
				w.t.Fatal(err)
			}
		}
		for key, b := range held {
			if err := w.stores[i].PutIfAbsent(w.t.Context(), key, b); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// swap gives two objects each other's bytes.
func (w *world) swap(i int, a, b string) {
	dataA, _ := w.stores[i].Get(w.t.Context(), a, 0, -1)
	dataB, _ := w.stores[i].Get(w.t.Context(), b, 0, -1)
	w.replaceWith(i, a, dataB)
	w.replaceWith(i, b, dataA)
}

func (w *world) replaceWith(i int, key string, data []byte) {
	w.rewriteObject(i, key, func([]byte) []byte { return data })
}

// rollBack removes the newest half.
func (w *world) rollBack(i int, part string) {
	keys := w.keysOn(i, part)
	for _, key := range keys[len(keys)/2:] {
		w.rewriteObject(i, key, func([]byte) []byte { return nil })
	}
}

// other returns a true object of the kind, of another archive with the same key.
func (w *world) other(kind string) []byte {
	o := newWorld(w.t, 114)
	o.keys = w.keys
	r := o.start(nil)
	o.busy(r)
	r.close()
	keys := o.keysOn(2, map[string]string{"fragment": "/fragment/", "record": "/manifest/", "claim": "/claim/"}[kind])
	b, err := o.stores[2].Get(w.t.Context(), keys[len(keys)-1], 0, -1)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}
