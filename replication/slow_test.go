package replication

import (
	"fmt"
	"testing"
)

// TestSlowDisk: a leader whose disk doesn't follow while those of the others do hands over; the requests
// go on there, and nothing acknowledged is missing. While every disk is as slow, nobody does.
func TestSlowDisk(t *testing.T) {
	w := newWorld(t, 51, 3)
	leader := w.lead()
	w.rest(3)
	// settle without the leader's disk.
	others := func() {
		for range 1000 {
			busy := len(w.net) > 0
			if busy {
				w.deliver(0)
			}
			for _, n := range w.nodes {
				if n != leader && len(n.disk.pending) > 0 {
					n.disk.sync(1)
					n.m.Advance()
					busy = true
				}
			}
			if !busy {
				return
			}
		}
	}
	w.submit(leader, "waits for the leader's disk")
	others()
	if len(w.acked) != 0 {
		t.Fatal("acknowledged before the leader holds it")
	}
	for i := 0; leader.m.Leading(); i++ {
		if i > 3*slowTicks {
			t.Fatal("the leader keeps everybody waiting")
		}
		w.tick()
		others()
	}
	next := w.lead()
	if next == leader {
		t.Fatal("it leads again")
	}
	w.submit(next, "goes on")
	w.settle()
	w.check()
	if len(w.acked) == 0 {
		t.Fatal("the next leader does not go on")
	}

	// All are slow: no reason to change.
	w.rest(2)
	leader, term := next, next.m.Term()
	for i := range 2 * slowTicks {
		w.submit(leader, fmt.Sprint("slow ", i))
		for len(w.net) > 0 {
			w.deliver(0)
		}
		w.tick()
	}
	w.settle()
	if leader.m.Term() != term || !leader.m.Leading() {
		t.Fatal("leadership changed although every disk is as slow")
	}
	w.check()
}
