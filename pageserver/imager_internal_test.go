package pageserver

import (
	"testing"

	"github.com/logcore/logcore/engine"
)

// TestCostliestFirst: what reads apply decides, not how often a short chain is read; a
// page at a newer place is imaged there; the table is bounded.
func TestCostliestFirst(t *testing.T) {
	l := newLogState(1, nil, stateValue{name: "db"})
	g := &imager{}
	page := func(n uint32) pageID { return pageID{engine.SpaceOf(1), n} }
	for range 1000 {
		g.note(version{owner: l, at: pos{9, 0}}, page(1), imageChainMin-1) // never worth it
	}
	g.note(version{owner: l, at: pos{9, 0}}, page(2), imageCostMin-1) // read once
	for range 3 {
		g.note(version{owner: l, at: pos{9, 0}}, page(3), 30)
		g.note(version{owner: l, at: pos{9, 0}}, page(4), 20)
	}
	g.note(version{owner: l, at: pos{8, 0}}, page(4), 20)
	g.note(version{owner: l, at: pos{12, 0}}, page(3), 30)
	got := g.costliest(10)
	if len(got) != 2 || got[0].page != 3 || got[1].page != 4 {
		t.Fatalf("costliest %v, want pages 3 and 4", got)
	}
	if one := g.costliest(1); len(one) != 1 || one[0].page != 3 {
		t.Errorf("the costliest one: %v", one)
	}
	for i, want := range []pos{{12, 0}, {9, 0}} {
		if at := g.taken(got[i]); at != want {
			t.Errorf("page %d is imaged at %v, want %v", got[i].page, at, want)
		}
	}
	if again := g.costliest(10); len(again) != 0 {
		t.Errorf("taken, and still worth an image: %v", again)
	}
	for n := range uint32(3 * imageCostsMax) {
		g.note(version{owner: l, at: pos{9, 0}}, page(n), imageChainMin)
	}
	if len(g.costs) > imageCostsMax+1 {
		t.Errorf("%d costs are kept, at most %d", len(g.costs), imageCostsMax)
	}
}
