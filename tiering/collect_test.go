package tiering

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// guarded lets no fragment be deleted that the manifest names at that moment, and notes
// who tried. What it asks are the stores themselves, not an archiver.
type guarded struct {
	bucket.Bucket
	name  string
	guard *guard
}

type guard struct {
	targets []Target // bare
	keys    KeyProvider

	newest atomic.Pointer[Archiver] // that has taken over

	mu      sync.Mutex
	deletes int
	wrong   []string
}

func (g guarded) Delete(ctx context.Context, key string) error {
	if strings.Contains(key, "/fragment/") && g.guard.forbids(g.name, key) {
		return nil // let it live, so that the run goes on
	}
	return g.Bucket.Delete(ctx, key)
}

// forbids reports whether the manifest names a fragment, and notes it. It looks twice:
// records are collected at once here, so that a load may meet a chain that is just being
// replaced by a rollup and see the one before.
func (g *guard) forbids(target, key string) bool {
	if g.names(target, key) == "" {
		return false
	}
	what := g.names(target, key)
	g.mu.Lock()
	defer g.mu.Unlock()
	if what != "" {
		g.wrong = append(g.wrong, what)
	}
	return what != ""
}

// names says which object a fragment is of that the manifest on the targets names there.
func (g *guard) names(target, key string) string {
	m, err := loadManifest(context.Background(), newRemotes(g.targets, time.Second), testCluster, 0, g.keys)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deletes++
	if err != nil {
		return ""
	}
	s := m.state
	if a := g.newest.Load(); m.claimed > s.epoch && a != nil {
		// What an archiver wrote after a newer one had claimed the archive counts only if that
		// one saw it.
		s = a.state.Load()
	}
	n, index, _ := parseFragmentKey(testCluster, 0, key)
	for _, o := range s.segmentObjects(n.segment) {
		if o.name() == n && o.fragments[index].target == target {
			return fmt.Sprintf("%s: fragment %d of %s, by record %d of epoch %d", target, index, o.describe(), s.number, s.epoch)
		}
	}
	return ""
}

// collectOnce lives through a random history: archivers that crash at any step or go on
// beside their successors, targets that come and go, other codes, while what is superseded
// is collected at once. plant changes each archiver.
func collectOnce(t *testing.T, seed uint64, plant func(a *Archiver)) *guard {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t, seed)
	w.more("d1", "d2", "e1")
	names := append(targetNames[:6:6], "d1", "d2", "e1")
	g := &guard{keys: w.keys}
	for i, name := range names {
		g.targets = append(g.targets, Target{Name: name, Provider: name[:1], Bucket: named{w.stores[i], name}})
	}
	w.change = func(o *Options) {
		o.Grace, o.MaxAge = time.Nanosecond, 3*time.Millisecond
		o.Targets = nil
		for i := range g.targets {
			o.Targets = append(o.Targets, Target{Name: names[i], Provider: names[i][:1], Bucket: guarded{named{w.faults[i], names[i]}, names[i], g}})
		}
	}
	var others []*running
	for range 6 {
		crashIn := rng.IntN(150)
		var mu sync.Mutex
		pauses := rand.New(rand.NewPCG(rng.Uint64(), 1))
		r := func() *running {
			a, err := openWithHook(t.Context(), w.options(), func(string) error {
				mu.Lock()
				defer mu.Unlock()
				if crashIn--; crashIn == 0 {
					return errCrash
				}
				if pauses.IntN(40) == 0 {
					time.Sleep(time.Duration(pauses.IntN(3)) * time.Millisecond)
				}
				return nil
			})
			if err != nil {
				return nil
			}
			a.recheck = time.Millisecond
			g.newest.Store(a)
			if plant != nil {
				plant(a)
			}
			return run(t, a)
		}()
		if r == nil {
			continue
		}
		for range 3 + rng.IntN(4) {
			w.hot.append(1+rng.IntN(3), 60)
			if rng.IntN(2) == 0 {
				w.hot.seal()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			switch rng.IntN(6) {
			case 0:
				_ = r.Evacuate(ctx, names[rng.IntN(len(names))]) // refused when it can't be spared
			case 1:
				_ = r.RemoveTarget(ctx, names[rng.IntN(len(names))])
			case 2:
				code := [][2]int{{4, 2}, {3, 2}, {2, 1}}[rng.IntN(3)]
				_ = r.SetCode(ctx, code[0], code[1])
			default:
				_ = r.Flush(ctx, w.hot.Committed())
			}
			cancel()
			poke(r.tidy)
		}
		if rng.IntN(2) == 0 {
			r.close()
		} else {
			others = append(others, r) // goes on until it finds out that it is fenced
		}
	}
	for _, r := range others {
		r.close()
	}
	w.change(&Options{})
	a, err := openWithHook(t.Context(), w.options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	g.newest.Store(a) // before it deletes anything: the guard asks it too
	last := run(t, a)
	last.flushAll()
	last.settled()
	w.readable(g.targets)
	last.close()
	return g
}

// Whatever happens, nothing is deleted that the manifest names.
func TestCollectionNeverDeletesWhatIsNamed(t *testing.T) {
	t.Parallel()
	deletes, seeds := 0, 16
	if text := os.Getenv("LOGCORE_COLLECT_SEEDS"); text != "" {
		seeds, _ = strconv.Atoi(text)
	}
	for seed := range uint64(seeds) {
		g := collectOnce(t, 1000+seed, nil)
		if len(g.wrong) > 0 {
			t.Fatalf("seed %d: %v", seed, g.wrong)
		}
		deletes += g.deletes
	}
	if deletes < 5*seeds {
		t.Fatalf("only %d fragments were collected: the run proves nothing", deletes)
	}
}

// The same test finds collectors that forget one of the rules.
func TestCollectionFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, bug := range map[string]func(a *Archiver) func(objectName, int, string) bool{
		"what is being placed": func(a *Archiver) func(objectName, int, string) bool {
			return func(n objectName, index int, target string) bool {
				a.mu.Lock()
				busy := a.inFlight[n]
				delete(a.inFlight, n)
				a.mu.Unlock()
				orphan := a.isOrphan(n, index, target)
				if busy {
					time.Sleep(2 * time.Millisecond) // the decision is old by now
				}
				return orphan
			}
		},
		"the state at its start": func(a *Archiver) func(objectName, int, string) bool {
			start := a.state.Load()
			return func(n objectName, index int, target string) bool {
				for _, o := range start.segmentObjects(n.segment) {
					if o.name() == n {
						return a.isOrphan(n, index, target)
					}
				}
				return n.epoch == a.o.Epoch && a.Covered() > start.covered() // it has forgotten what it archived since
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				g := collectOnce(t, 5000+seed, func(a *Archiver) { a.orphan = bug(a) })
				if len(g.wrong) > 0 {
					t.Logf("found with seed %d: %s", seed, g.wrong[0])
					return
				}
			}
			t.Fatal("the planted bug is not found")
		})
	}
}
