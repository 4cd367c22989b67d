package pageserver

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// TestPoints: what a branch, its branches and leases on any of them need of each log.
func TestPoints(t *testing.T) {
	h := Histories{
		Logs: []History{
			{ID: 1, Horizon: 50},
			{ID: 2, Parent: 1, BranchLSN: 30, Horizon: 60},
			{ID: 3, Parent: 2, BranchLSN: 40},
			{ID: 4, Parent: 2, BranchLSN: 20}, // in truth of log 1
			{ID: 5, Parent: 2, BranchLSN: 30}, // at the very fork: of log 1
			{ID: 6, Parent: 1, BranchLSN: 70}, // above the horizon: nothing to pin
		},
		Leases: []LeasedLSN{{3, 25}, {3, 35}, {3, 45}, {1, 10}, {1, 10}, {1, 55}, {9, 5}},
	}
	want := map[logcore.LogID]points{
		1: {50, []logcore.LSN{10, 20, 25, 30}},
		2: {60, []logcore.LSN{35, 40}},
		3: {}, 4: {}, 5: {}, 6: {},
	}
	got := h.points()
	for id, w := range want {
		if !got[id].equal(w) {
			t.Errorf("log %d: %+v, want %+v", id, got[id], w)
		}
	}
}

// TestNeeds holds the intervals against trying every LSN.
func TestNeeds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		p := points{horizon: logcore.LSN(rng.IntN(30))}
		for at := range p.horizon {
			if rng.IntN(6) == 0 {
				p.pins = append(p.pins, at)
			}
		}
		from := logcore.LSN(rng.IntN(35))
		to := from + logcore.LSN(rng.IntN(10)) + 1
		want := false
		for at := from; at < to; at++ {
			want = want || at >= p.horizon || slices.Contains(p.pins, at)
		}
		if got := p.needs(from, to); got != want {
			t.Fatalf("%+v needs [%d, %d): %v", p, from, to, got)
		}
	}
}
