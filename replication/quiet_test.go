package replication

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// hushedWorld returns a group that has fallen quiet, and its leader.
func hushedWorld(t testing.TB, seed uint64) (*world, *node) {
	t.Helper()
	w := newWorld(t, seed, 0)
	w.quietTicks = 5
	for _, id := range []uint64{1, 2, 3} {
		w.add(id, FoundingState(3, id, []uint64{1, 2, 3}, 77))
	}
	leader := w.lead()
	for range 60 {
		w.tick()
		w.settle()
		if w.hushed() {
			return w, leader
		}
	}
	t.Fatalf("seed %d: the group does not fall quiet", seed)
	return nil, nil
}

func (w *world) hushed() bool {
	for _, n := range w.nodes {
		if n.m != nil && !n.m.Quiet() {
			return false
		}
	}
	return true
}

// TestIdleGroupsSayNothing: a thousand groups of three members with nothing to do send no message and elect nobody for a
// thousand ticks; a request is carried out at once, and they fall quiet again.
func TestIdleGroupsSayNothing(t *testing.T) {
	const groups = 1000
	for seed := range groups {
		w, leader := hushedWorld(t, uint64(seed))
		term, sent := leader.m.Term(), 0
		for range 1000 {
			w.tick()
			sent += len(w.net)
			w.settle()
		}
		if sent != 0 || leader.m.Term() != term || !leader.m.Leading() {
			t.Fatalf("seed %d: %d messages in 1,000 ticks, term %d after %d, leading: %v", seed, sent, leader.m.Term(), term, leader.m.Leading())
		}
		if seed%100 != 0 {
			continue
		}
		before := len(w.acked)
		w.submit(leader, "wakes it")
		leader.m.Advance()
		w.settle()
		for range 3 {
			w.tick()
			w.settle()
		}
		if len(w.acked) != before+1 {
			t.Fatalf("seed %d: the request was not carried out", seed)
		}
		for _, n := range w.nodes {
			if n.m.Committed() != leader.m.Committed() {
				t.Errorf("seed %d: member %d has LSN %d of %d", seed, n.id, n.m.Committed(), leader.m.Committed())
			}
		}
		for range 30 {
			w.tick()
			w.settle()
		}
		if !w.hushed() {
			t.Errorf("seed %d: it does not fall quiet again", seed)
		}
	}
}

// TestQuietGroupElects: when the leader of a quiet group is gone, the members that are told so elect another one.
func TestQuietGroupElects(t *testing.T) {
	for seed := range uint64(50) {
		w, leader := hushedWorld(t, seed)
		w.crash(leader)
		for _, n := range w.nodes {
			if n.m != nil {
				n.m.Rouse()
				n.m.Advance()
			}
		}
		if next := w.lead(); next == leader {
			t.Fatal("the one that crashed leads")
		}
	}
}

// TestRousedMembersComeToRest: when it was only the way to the leader that was gone for a moment, the leader stays.
func TestRousedMembersComeToRest(t *testing.T) {
	for seed := range uint64(50) {
		w, leader := hushedWorld(t, seed)
		term := leader.m.Term()
		for _, n := range w.nodes {
			if n != leader && seed%2 == n.id%2 {
				n.m.Rouse()
				n.m.Advance()
			}
		}
		w.settle()
		for range 60 {
			w.tick()
			w.settle()
		}
		if !leader.m.Leading() || leader.m.Term() != term || !w.hushed() {
			t.Fatalf("seed %d: leading %v in term %d after %d, quiet: %v", seed, leader.m.Leading(), leader.m.Term(), term, w.hushed())
		}
	}
}

// TestLostHush: a member that did not hear the leader's last heartbeat does not depose it.
func TestLostHush(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(t, seed, 0)
		w.quietTicks = 5
		for _, id := range []uint64{1, 2, 3} {
			w.add(id, FoundingState(3, id, []uint64{1, 2, 3}, 77))
		}
		leader := w.lead()
		lost := 0
		w.plant = func(_ *node, m *raftpb.Message) bool {
			if m.GetType() == raftpb.MsgHeartbeat && string(m.GetContext()) == string(quietMark) && lost == 0 {
				lost++
				return false
			}
			return true
		}
		term := leader.m.Term()
		for range 400 {
			w.tick()
			w.settle()
		}
		if lost == 0 || !leader.m.Leading() || leader.m.Term() != term || !w.hushed() {
			t.Fatalf("seed %d: %d lost, leading %v in term %d after %d, quiet: %v", seed, lost, leader.m.Leading(), leader.m.Term(), term, w.hushed())
		}
	}
}
