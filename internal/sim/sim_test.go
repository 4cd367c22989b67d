package sim

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
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

// Several shards, and logs that move between them under faults: nothing lost, nothing twice, order kept, every move finished.
func TestMovingSeeds(t *testing.T) {
	n := seedCount(t, 100)
	var counts Counts
	o := Options{Moves: true}
	for seed := uint64(1); seed <= n; seed++ {
		r := Run(seed, o)
		if r.Err != nil {
			t.Fatalf("%v\nreplay it with: make sim-moves SEED=%d", r.Err, seed)
		}
		if seed%20 == 0 {
			if again := Run(seed, o); again.Hash != r.Hash {
				t.Fatalf("seed %d: trace %016x, then %016x", seed, r.Hash, again.Hash)
			}
		}
		counts.Add(r.Counts)
	}
	if err := counts.VoidOf(o, n); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d seeds: %v", n, counts)
}

// What the oracle is there for when logs move.
func TestOracleOfMoves(t *testing.T) {
	other := func(o *oracle) *oracle {
		b := newOracle()
		b.logs, b.byName, b.byTx, b.opened, b.shard = o.logs, o.byName, o.byTx, o.opened, 1
		return b
	}
	leave := command(catalog.Command{Op: catalog.OpLeave, Log: 1, Gen: 1, Shard: 1})
	place := command(catalog.Command{Op: catalog.OpPlace, Log: 1, Gen: 1})
	type in struct {
		shard int
		e     logcore.Entry
	}
	for name, c := range map[string]struct {
		entries []in
		want    string
	}{
		"left, placed, written":      {[]in{{0, leave}, {1, place}, {1, record(1, 2, 2)}}, ""},
		"placed before it left":      {[]in{{1, place}}, "is placed, which is in shard 0"},
		"written after it left":      {[]in{{0, leave}, {0, record(1, 2, 2)}}, "is written to, which has left shard 0"},
		"written in the old shard":   {[]in{{0, leave}, {1, place}, {0, record(1, 2, 2)}}, "is written to, which is in shard 1"},
		"an entry again":             {[]in{{0, leave}, {1, place}, {1, record(1, 2, 1)}}, "written twice"},
		"a sequence left out":        {[]in{{0, leave}, {1, place}, {1, record(1, 3, 2)}}, "sequence 3 after 1"},
		"left twice":                 {[]in{{0, leave}, {0, leave}}, "leaves, which has left"},
		"a move left out":            {[]in{{0, command(catalog.Command{Op: catalog.OpLeave, Log: 1, Gen: 2, Shard: 1})}}, "after 0 moves"},
		"opened where it is no more": {[]in{{0, leave}, {1, place}, {0, open2}}, "is opened, which is in shard 1"},
	} {
		first := committed(t, create, open1, record(1, 1, 1))
		shards := []*oracle{first, other(first)}
		var err error
		for _, x := range c.entries {
			o := shards[x.shard]
			x.e.LSN, x.e.Time = o.last()+1, logcore.HLC(o.last()+1)
			if err = o.see(1, x.e, uint32(x.e.LSN)); err != nil {
				break
			}
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
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
