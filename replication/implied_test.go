package replication

import (
	"slices"
	"testing"
)

// TestChangesImplyCommit: a member that holds two changes of the members, and whose state knows of
// neither, is at most one of them behind when it starts.
func TestChangesImplyCommit(t *testing.T) {
	w := newWorld(t, 41, 3)
	leader := w.lead()
	w.rest(3)
	var n *node
	for _, other := range w.nodes {
		if other != leader {
			n = other
		}
	}
	before := n.state
	for id := uint64(4); id <= 6; id++ {
		if err := w.change(leader, MemberChange{AddLearners: []uint64{id}}); err != nil {
			t.Fatal(err)
		}
	}
	w.rest(3)
	w.crash(n)
	n.state = before
	w.nodes = []*node{n} // nobody is there to ask
	w.start(n)
	if m := n.m.Members(); !slices.Equal(m.Learners, []uint64{4, 5}) {
		t.Fatalf("it goes on with %+v, want the learners 4 and 5: the log says that they are committed", m)
	}
}
