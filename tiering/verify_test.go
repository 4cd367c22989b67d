package tiering

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// filled is a world with some of everything on its targets: sealed objects, tails,
// superseded objects within their grace, records before and after a rollup.
func filled(t testing.TB, seed uint64) (*world, logcore.LSN) {
	w := newWorld(t, seed)
	a := w.start(nil)
	for range 2 {
		for range 6 {
			w.hot.append(2, 800)
			a.flushAll()
		}
		w.hot.seal()
	}
	w.hot.append(3, 3000)
	a.flushAll()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	return w, a.Covered()
}

func TestVerifyOfSoundTargets(t *testing.T) {
	w, covered := filled(t, 4)
	for _, keys := range []KeyProvider{w.keys, nil} {
		calls := 0
		report, err := Verify(t.Context(), w.targets(), keys, func(Progress) { calls++ })
		if err != nil || !report.OK() || len(report.Problems) > 0 || !report.Complete() || calls == 0 {
			t.Fatalf("%v %v", err, report.Problems)
		}
		if len(report.Archives) != 1 || report.Archives[0].Covered != covered || report.Archives[0].First != 1 || report.Decrypted != (keys != nil) {
			t.Fatalf("report %+v", report.Archives)
		}
		var stored int64
		for i := range w.stores {
			w.stores[i].List(t.Context(), "", "", func(a bucket.Attributes) bool { stored += a.Size; return true })
		}
		if report.Bytes != stored {
			t.Fatalf("read %d bytes of %d", report.Bytes, stored)
		}
	}
}

// TestEveryFlipIsFoundAndHealed flips 100 random bits anywhere on the targets, one at a
// time, and then two in each of 20 rounds at once.
func TestEveryFlipIsFoundAndHealed(t *testing.T) {
	w, covered := filled(t, 5)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	rounds := 40
	if text := os.Getenv("LOGCORE_FLIP_ROUNDS"); text != "" {
		rounds, _ = strconv.Atoi(text)
	}
	for round := range rounds {
		flips := 1
		if round >= rounds*5/6 {
			flips = 2
		}
		var places []string
		for range flips {
			i := rng.IntN(6)
			keys := w.keysOn(i, "")
			key := keys[rng.IntN(len(keys))]
			if slices.Contains(places, targetNames[i]+" "+key) {
				continue
			}
			bit := 0
			w.rewriteObject(i, key, func(b []byte) []byte {
				bit = rng.IntN(len(b) * 8)
				b[bit/8] ^= 1 << (bit % 8)
				return b
			})
			places = append(places, targetNames[i]+" "+key)
		}
		keys := KeyProvider(w.keys)
		if round%2 == 0 {
			keys = nil
		}
		report, err := Verify(t.Context(), w.targets(), keys, nil)
		if err != nil || report.OK() {
			t.Fatalf("round %d: %v: flips in %v are not found: %v", round, err, places, report.Problems)
		}
		for _, place := range places {
			if !slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Target+" "+p.Key == place }) {
				t.Fatalf("round %d: the flip in %s is not named: %v", round, place, report.Problems)
			}
		}
		if _, err := w.readerOn(w.targets()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		repaired, err := Repair(t.Context(), w.targets(), keys, nil)
		if err != nil || len(repaired.Left) > 0 || len(repaired.Fixed) == 0 {
			t.Fatalf("round %d: repair: %v, left %v", round, err, repaired.Left)
		}
		if report, err := Verify(t.Context(), w.targets(), w.keys, nil); err != nil || len(report.Problems) > 0 {
			t.Fatalf("round %d: after the repair of %v: %v %v", round, places, err, report.Problems)
		}
	}
	w.mustCheck(covered)
}

func TestVerifyNamesEveryKindOfDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world)
		kind   ProblemKind
		place  string
		notice bool
		repair bool
	}{
		"fragment lost": {func(w *world) { w.rewriteObject(2, w.liveKey(2), func([]byte) []byte { return nil }) }, ProblemFragmentMissing, "b1", false, true},
		"fragment cut":  {func(w *world) { w.rewriteObject(2, w.liveKey(2), func(b []byte) []byte { return b[:len(b)/2] }) }, ProblemFragmentRotten, "b1", false, true},
		"fragment of another object": {func(w *world) {
			other := w.otherKey(2, w.liveKey(2))
			b, _ := w.stores[2].Get(context.Background(), other, 0, -1)
			w.rewriteObject(2, w.liveKey(2), func([]byte) []byte { return b })
		}, ProblemFragmentRotten, "b1", false, true},
		"records lost": {func(w *world) {
			for _, key := range w.keysOn(0, "/manifest/") {
				w.rewriteObject(0, key, func([]byte) []byte { return nil })
			}
		}, ProblemRecordMissing, "a1", false, true},
		"newest record not there": {func(w *world) { w.rewriteObject(0, w.lastRecord(0), func([]byte) []byte { return nil }) }, ProblemRecordBehind, "a1", true, true},
		"record cut":              {func(w *world) { w.rewriteObject(0, w.lastRecord(0), func(b []byte) []byte { return b[:50] }) }, ProblemRecordRotten, "a1", false, true},
		"target gone":             {func(w *world) { w.faults[3].Down() }, ProblemUnreachable, "b2", true, false},
		"orphan": {func(w *world) {
			k := w.liveKey(1)
			b, _ := w.stores[1].Get(context.Background(), k, 0, -1)
			w.stores[1].PutIfAbsent(context.Background(), orphanOf(k), rewriteEpoch(b))
		}, ProblemOrphan, "a2", true, false},
		"foreign": {func(w *world) {
			w.stores[1].PutIfAbsent(context.Background(), shardPrefix(testCluster, 0)+"what/is.this", []byte("x"))
		}, ProblemForeign, "a2", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := filled(t, 6)
			c.damage(w)
			report, err := Verify(t.Context(), w.targets(), w.keys, nil)
			if err != nil || report.OK() != c.notice {
				t.Fatalf("ok %v: %v %v", report.OK(), err, report.Problems)
			}
			if !slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Kind == c.kind && p.Target == c.place && p.String() != "" }) {
				t.Fatalf("no %s on %s in %v", c.kind, c.place, report.Problems)
			}
			repaired, err := Repair(t.Context(), w.targets(), w.keys, nil)
			if err != nil || len(repaired.Left) > 0 || len(repaired.Fixed) > 0 != c.repair {
				t.Fatalf("repair: %v: fixed %v, left %v", err, repaired.Fixed, repaired.Left)
			}
			if c.repair {
				if report, _ := Verify(t.Context(), w.targets(), w.keys, nil); len(report.Problems) > 0 {
					t.Fatalf("after the repair: %v", report.Problems)
				}
			}
		})
	}
}

// liveKey is the key of a fragment of the newest sealed object on a target.
func (w *world) liveKey(i int) string {
	keys := slices.DeleteFunc(w.keysOn(i, "/fragment/"), func(k string) bool { return !strings.Contains(k, "-s-") })
	return keys[len(keys)-1]
}

func (w *world) otherKey(i int, not string) string {
	keys := slices.DeleteFunc(w.keysOn(i, "/fragment/"), func(k string) bool { return k == not })
	return keys[0]
}

func (w *world) lastRecord(i int) string {
	keys := w.keysOn(i, "/manifest/")
	return keys[len(keys)-1]
}

// orphanOf and rewriteEpoch make of a fragment one of an archiver that crashed.
func orphanOf(key string) string {
	n, index, _ := parseFragmentKey(testCluster, 0, key)
	n.epoch = 0
	return n.key(testCluster, 0, index)
}

func rewriteEpoch(b []byte) []byte {
	b = slices.Clone(b)
	clear(b[64:72])
	sum := crc32c(b[:188])
	b[188], b[189], b[190], b[191] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return recheckBlocks(b)
}

func TestThreeLossesAreNamedAtOnce(t *testing.T) {
	w, _ := filled(t, 7)
	for a := range 6 {
		for b := a + 1; b < 6; b++ {
			for c := b + 1; c < 6; c++ {
				r, err := w.readerOn(without(w.bare(), a, b, c))
				if err != nil {
					t.Fatal(err) // three of six still prove the manifest
				}
				_, _, _, err = readBack(t.Context(), r)
				var fe *FragmentsError
				if !errors.As(err, &fe) || !errors.Is(err, ErrTooFewFragments) || fe.Have != 3 || fe.Need != 4 || len(fe.Missing) < 3 {
					t.Fatalf("without %d %d %d: %v", a, b, c, err)
				}
				for _, lost := range []int{a, b, c} {
					if !strings.Contains(err.Error(), targetNames[lost]) {
						t.Fatalf("%v does not name %s", err, targetNames[lost])
					}
				}
			}
		}
	}
	if _, err := w.readerOn(without(w.bare(), 0, 1, 2, 3)); !errors.Is(err, ErrUnproven) {
		t.Fatalf("two targets: got %v, want ErrUnproven", err)
	}
}

func TestVerifyWithTheWrongKeySaysSo(t *testing.T) {
	w, _ := filled(t, 8)
	wrong := newKeyring([][32]byte{{9}})
	if _, err := Verify(t.Context(), w.targets(), wrong, nil); !errors.Is(err, ErrKeyNotFound) {
		t.Fatalf("got %v, want ErrKeyNotFound", err)
	}
	if _, err := OpenReader(t.Context(), ReaderOptions{Targets: w.targets(), Keys: wrong, Logger: quiet()}); !errors.Is(err, ErrKeyNotFound) || !strings.Contains(err.Error(), w.keys.Current().String()) {
		t.Fatalf("got %v, want ErrKeyNotFound with the id of the key", err)
	}
	// And nothing is repaired to death.
	if _, err := Repair(t.Context(), w.targets(), wrong, nil); !errors.Is(err, ErrKeyNotFound) {
		t.Fatalf("got %v, want ErrKeyNotFound", err)
	}
	if report, err := Verify(t.Context(), w.targets(), w.keys, nil); err != nil || len(report.Problems) > 0 {
		t.Fatal(err, report.Problems)
	}
}

func TestEmptyTargets(t *testing.T) {
	w := newWorld(t, 9)
	if _, err := Verify(t.Context(), w.targets(), nil, nil); !errors.Is(err, ErrNoArchive) {
		t.Errorf("verify: %v", err)
	}
	if _, err := w.readerOn(w.targets()); !errors.Is(err, ErrNoArchive) {
		t.Errorf("reader: %v", err)
	}
	for _, f := range w.faults {
		f.Down()
	}
	if _, err := w.readerOn(w.targets()); !errors.Is(err, ErrUnproven) {
		t.Errorf("reader with no target: %v", err)
	}
	if _, err := Verify(t.Context(), w.targets(), nil, nil); !errors.Is(err, ErrUnproven) {
		t.Errorf("verify with no target: %v", err)
	}
}

func TestReaderReadsRangesAndRepairsOnTheFly(t *testing.T) {
	w, covered := filled(t, 10)
	key := w.liveKey(0)
	n, _, _ := parseFragmentKey(testCluster, 0, key)
	w.rewriteObject(0, key, func(b []byte) []byte { b[300] ^= 1; return b })
	counter := orPrivateCounter(nil)
	r, err := OpenReader(t.Context(), ReaderOptions{Targets: w.targets(), Keys: w.keys, Corruptions: counter, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	want := string(w.hot.content(n.first, n.last))
	spans, err := r.ReadRange(t.Context(), n.first, n.first, 1)
	if err != nil || len(spans) != 1 || string(spans[0].Frames) != want || !spans[0].Sealed {
		t.Fatalf("%v, %d spans", err, len(spans))
	}
	if got := counterValue(counter); got != 1 {
		t.Fatalf("corruptions %v, want 1", got)
	}
	for _, rg := range [][2]int64{{0, 1}, {5, 700}, {int64(len(want)) - 1, 1}, {0, int64(len(want))}} {
		b, err := r.ReadFrames(t.Context(), n.first, rg[0], rg[1])
		if err != nil || string(b) != want[rg[0]:rg[0]+rg[1]] {
			t.Fatalf("frames %v: %v", rg, err)
		}
	}
	if _, err := r.ReadFrames(t.Context(), n.first, 0, int64(len(want))+1); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("a range past the end: %v", err)
	}
	if _, err := r.ReadRange(t.Context(), covered+1, 0, 1); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Errorf("beyond: %v", err)
	}
	if _, err := r.ReadRange(t.Context(), 0, 0, 1); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("below: %v", err)
	}
	spans, err = r.ReadRange(t.Context(), 1, covered, 1<<30)
	if err != nil || spans[0].First != 1 || spans[len(spans)-1].Last != covered {
		t.Fatalf("all: %v", err)
	}
	if _, err := OpenReader(t.Context(), ReaderOptions{}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("no options: %v", err)
	}
	if fmt.Sprint(r.Cluster()) != fmt.Sprint(testCluster) || r.Epoch() != 1 || r.CoveredTime() != hotTime(covered) {
		t.Errorf("cluster %x epoch %d time %v", r.Cluster(), r.Epoch(), r.CoveredTime())
	}
}
