package client

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestHedge: the estimate finds the 95th percentile, and the budget lets one read in ten be
// asked twice.
func TestHedge(t *testing.T) {
	var h hedge
	h.after()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		h.took(time.Duration(rng.IntN(100)) * time.Millisecond)
	}
	if p := h.after(); p < 85*time.Millisecond || p > 99*time.Millisecond {
		t.Errorf("p95 of 0 to 99 ms is %v", p)
	}
	hedges := 0
	for range 1000 {
		if h.spend() {
			hedges++
		}
		h.took(time.Millisecond)
	}
	if hedges < 100 || hedges > 100+hedgeBudgetMax {
		t.Errorf("%d hedges for 1000 reads", hedges)
	}
}
