package sim

import (
	"os"
	"strconv"
	"testing"
)

// seedCount is how many seeds a test runs; LOGCORE_SIM_SEEDS sets another number.
func seedCount(t *testing.T, def uint64) uint64 {
	s := os.Getenv("LOGCORE_SIM_SEEDS")
	if s == "" {
		return def
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("LOGCORE_SIM_SEEDS=%q: want a positive number", s)
	}
	return n
}

// F5 to F13, but for what the figures of one change need more seeds for (make sim).
func TestSeeds(t *testing.T) {
	n := seedCount(t, 300)
	var counts Counts
	for seed := uint64(1); seed <= n; seed++ {
		r := Run(seed, Options{})
		if r.Err != nil {
			t.Fatalf("%v\nreplay it with: make sim SEED=%d", r.Err, seed)
		}
		counts.Add(r.Counts)
	}
	if err := counts.Void(n); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d seeds: %v", n, counts)
}

// One seed is one run: to the hash of its trace, with and without its lines, and
// whatever ran before.
func TestReplayIsExact(t *testing.T) {
	hashes := map[uint64]uint64{}
	for seed := uint64(1); seed <= 60; seed++ {
		first := Run(seed, Options{})
		again := Run(seed, Options{Trace: true})
		if first.Hash != again.Hash || first.Counts != again.Counts {
			t.Fatalf("seed %d: trace %016x, then %016x", seed, first.Hash, again.Hash)
		}
		if again.Trace == "" || first.Trace != "" {
			t.Fatalf("seed %d: %d bytes of trace unasked, %d when asked", seed, len(first.Trace), len(again.Trace))
		}
		if other, seen := hashes[first.Hash]; seen {
			t.Fatalf("seeds %d and %d have the same trace", other, seed)
		}
		hashes[first.Hash] = seed
	}
}

// The simulation finds what it is there to find, each within 1,000 seeds.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range Planted {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 1000; seed++ {
				if r := Run(seed, Options{Planted: bug}); r.Err != nil {
					t.Logf("found with seed %d: %.200s", seed, r.Err.Error())
					return
				}
			}
			t.Fatal("not found in 1,000 seeds")
		})
	}
}

// A range of seeds that did too little is no proof of anything.
func TestIdleRunIsVoid(t *testing.T) {
	if err := (Counts{}).Void(1000); err == nil {
		t.Fatal("1,000 seeds in which nothing happened pass")
	}
	if r := Run(1, Options{Planted: "no such bug"}); r.Err == nil {
		t.Fatal("a bug that does not exist was planted")
	}
}
