package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/logcore/logcore"
)

// change asks a node for a change of the members and lets it happen; the error is that of the request.
func (w *world) change(n *node, c MemberChange) error {
	var result error
	w.request(n, func(p *Proposer) error { return p.ChangeMembers(c) }, &result)
	w.settle()
	return result
}

var errNotYet = errors.New("not answered yet")

func (w *world) request(n *node, prepare func(*Proposer) error, result *error) {
	*result = errNotYet
	if err := n.m.Submit(Request{Prepare: prepare, Done: func(err error) { *result = err }}); err != nil {
		w.t.Fatal(err)
	}
	n.m.Advance()
}

// rest lets a few ticks pass.
func (w *world) rest(ticks int) {
	for range ticks {
		w.tick()
		w.settle()
	}
}

func sameMembers(t *testing.T, n *node, voters, learners []uint64) {
	t.Helper()
	if m := n.m.Members(); !slices.Equal(m.Voters, voters) || !slices.Equal(m.Learners, learners) || len(m.Outgoing) != 0 {
		t.Fatalf("member %d has members %+v, want voters %v and learners %v", n.id, m, voters, learners)
	}
}

// TestGrowAndShrink: a group of one grows to three while it is in use, a member is replaced, and it
// shrinks again; every member comes to the same log, and a restart keeps the members.
func TestGrowAndShrink(t *testing.T) {
	w := newWorld(t, 21, 1)
	first := w.nodes[0]
	first.m.Campaign()
	w.lead()
	for i := range 60 { // past a SEAL
		w.submit(first, fmt.Sprint("alone ", i))
		w.settle()
	}
	for id := uint64(2); id <= 3; id++ {
		n := w.add(id, JoiningState(3, id, 77, first.m.Members()))
		if err := w.change(first, MemberChange{AddLearners: []uint64{id}}); err != nil {
			t.Fatal(err)
		}
		if err := w.change(first, MemberChange{AddLearners: []uint64{id}}); !errors.Is(err, logcore.ErrInvalid) {
			t.Fatalf("added twice: %v", err)
		}
		w.submit(first, fmt.Sprint("with a learner ", id))
		w.rest(5)
		if n.m.Committed() != first.m.Committed() {
			t.Fatalf("learner %d is at LSN %d of %d", id, n.m.Committed(), first.m.Committed())
		}
		if err := w.change(first, MemberChange{Promote: []uint64{id}}); err != nil {
			t.Fatal(err)
		}
	}
	w.rest(5)
	for _, n := range w.nodes {
		sameMembers(t, n, []uint64{1, 2, 3}, nil)
	}
	w.check()
	// The dead one is replaced by the fourth.
	w.crash(w.node(3))
	w.rest(electionTicks)
	w.add(4, JoiningState(3, 4, 77, first.m.Members()))
	if err := w.change(first, MemberChange{AddLearners: []uint64{4}}); err != nil {
		t.Fatal(err)
	}
	w.rest(5)
	if err := w.change(first, MemberChange{Promote: []uint64{4}, Remove: []uint64{3}}); err != nil {
		t.Fatal(err)
	}
	w.rest(5)
	sameMembers(t, first, []uint64{1, 2, 4}, nil)
	for _, n := range w.nodes {
		if n.id != 3 {
			w.crash(n)
			w.start(n)
			sameMembers(t, n, []uint64{1, 2, 4}, nil)
		}
	}
	leader := w.lead()
	w.submit(leader, "after the restart")
	w.rest(5)
	for _, id := range []uint64{1, 2, 4} {
		if id != leader.id {
			if err := w.change(leader, MemberChange{Remove: []uint64{id}}); err != nil {
				t.Fatal(err)
			}
			w.rest(3)
		}
	}
	sameMembers(t, leader, []uint64{leader.id}, nil)
	w.nodes = []*node{leader}
	w.submit(leader, "alone again")
	w.settle()
	if len(w.acked) != 64 {
		t.Fatalf("%d acknowledged", len(w.acked))
	}
}

// TestChangesThatAreRefused: what would cost the quorum, comes too early or asks for nonsense changes
// nothing.
func TestChangesThatAreRefused(t *testing.T) {
	w := newWorld(t, 23, 3)
	leader := w.lead()
	w.rest(3)
	var others []*node
	for _, n := range w.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	w.crash(others[0])
	w.rest(electionTicks + 1)
	for name, c := range map[string]struct {
		change MemberChange
		want   error
	}{
		"the other one in working order": {MemberChange{Remove: []uint64{others[1].id}}, ErrQuorum},
		"both others":                    {MemberChange{Remove: []uint64{1, 2, 3}}, ErrQuorum},
		"a stranger":                     {MemberChange{Remove: []uint64{99}}, ErrNoMember},
		"a stranger's promotion":         {MemberChange{Promote: []uint64{99}}, ErrNoMember},
		"a voter's promotion":            {MemberChange{Promote: []uint64{leader.id}}, ErrNoMember},
		"member 0":                       {MemberChange{AddLearners: []uint64{0}}, logcore.ErrInvalid},
		"nothing":                        {MemberChange{}, logcore.ErrInvalid},
	} {
		if err := w.change(leader, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	sameMembers(t, leader, []uint64{1, 2, 3}, nil)
	w.start(others[0])
	w.rest(3)
	if err := w.change(leader, MemberChange{Remove: []uint64{leader.id}}); !errors.Is(err, ErrLeads) {
		t.Fatalf("the leader itself: %v", err)
	}
	w.crash(others[0])
	w.rest(electionTicks + 1)
	if err := w.change(leader, MemberChange{AddLearners: []uint64{5}}); err != nil {
		t.Fatal(err)
	}
	if err := w.change(leader, MemberChange{Promote: []uint64{5}}); !errors.Is(err, ErrBehind) {
		t.Fatalf("a learner that was never heard of: %v", err)
	}
	if err := w.change(leader, MemberChange{Remove: []uint64{others[0].id}}); err != nil {
		t.Fatalf("the dead one: %v", err)
	}
	// Two at a time.
	var first, second error
	w.request(leader, func(p *Proposer) error {
		first = p.ChangeMembers(MemberChange{Remove: []uint64{5}})
		second = p.ChangeMembers(MemberChange{AddLearners: []uint64{6}})
		return nil
	}, new(error))
	w.settle()
	if first != nil || !errors.Is(second, ErrMembersChanging) {
		t.Fatalf("two changes at once: %v, %v", first, second)
	}
	w.submit(leader, "works")
	w.settle()
	if len(w.acked) != 1 {
		t.Fatal("the group does not go on")
	}
}

// TestChangeSurvivesACrash: whatever message of a change of several members is the last before the leader
// crashes, the others, or all of them after a restart, come out of the joint configuration with the same members.
func TestChangeSurvivesACrash(t *testing.T) {
	for stop := range 40 {
		w := newWorld(t, uint64(100+stop), 3)
		leader := w.lead()
		w.add(4, JoiningState(3, 4, 77, leader.m.Members()))
		if err := w.change(leader, MemberChange{AddLearners: []uint64{4}}); err != nil {
			t.Fatal(err)
		}
		w.rest(3)
		victim := w.nodes[int(leader.id)%3].id
		var result error
		w.request(leader, func(p *Proposer) error {
			return p.ChangeMembers(MemberChange{Promote: []uint64{4}, Remove: []uint64{victim}})
		}, &result)
		for range stop {
			for _, n := range w.nodes {
				n.disk.sync(1)
				n.m.Advance()
			}
			if len(w.net) > 0 {
				w.deliver(0)
			}
		}
		proposed := errors.Is(result, errNotYet) || result == nil
		for _, n := range w.nodes {
			if n == leader || stop%2 == 0 {
				w.crash(n)
			}
		}
		for _, n := range w.nodes {
			if n.m == nil {
				w.start(n)
			}
		}
		next := w.lead()
		w.rest(10)
		m := next.m.Members()
		changed := slices.Contains(m.Voters, 4)
		if len(m.Outgoing) != 0 || len(m.Voters) != 3 || changed == slices.Contains(m.Voters, victim) || !proposed || result == nil && !changed {
			t.Fatalf("stop %d: members %+v, victim %d, result %v", stop, m, victim, result)
		}
		w.submit(w.lead(), "goes on")
		w.rest(3)
		if len(w.acked) != 1 {
			t.Fatalf("stop %d: the group does not go on", stop)
		}
	}
}

// TestTransfer: leadership is handed over without an append being lost.
func TestTransfer(t *testing.T) {
	w := newWorld(t, 31, 3)
	leader := w.lead()
	w.rest(3)
	to := uint64(1)
	if leader.id == 1 {
		to = 2
	}
	for i := range 5 {
		w.submit(leader, fmt.Sprint("before ", i))
	}
	var result error
	w.request(leader, func(p *Proposer) error { return p.TransferLeader(99) }, &result)
	w.settle()
	if !errors.Is(result, ErrNoMember) {
		t.Fatalf("to a stranger: %v", result)
	}
	w.request(leader, func(p *Proposer) error { return p.TransferLeader(to) }, &result)
	w.settle()
	w.rest(2)
	if !w.node(to).m.Leading() || leader.m.Leading() || leader.m.Leader() != to {
		t.Fatalf("member %d does not lead", to)
	}
	w.submit(w.node(to), "after")
	w.settle()
	if len(w.acked) != 6 {
		t.Fatalf("%d acknowledged", len(w.acked))
	}
	// To one that does not answer: this member goes on.
	leader = w.node(to)
	other := w.nodes[0]
	if other == leader {
		other = w.nodes[1]
	}
	for _, n := range w.nodes {
		w.cut[[2]uint64{n.id, other.id}], w.cut[[2]uint64{other.id, n.id}] = true, true
	}
	w.request(leader, func(p *Proposer) error { return p.TransferLeader(other.id) }, &result)
	w.rest(electionTicks + 2)
	w.submit(leader, "went on")
	w.settle()
	if len(w.acked) != 7 {
		t.Fatal("a transfer that came to nothing ends the group")
	}
}

// TestFeed: a follower whose leader no longer holds what it lacks is fed, in several parts, over a tail that
// conflicts and through a crash, and goes on as one of the group.
func TestFeed(t *testing.T) {
	for _, crashAt := range []int{-1, 0, 2} {
		w := newWorld(t, 41, 3)
		lagging := w.lead()
		w.submit(lagging, "all have it")
		w.rest(2)
		for _, n := range w.nodes {
			w.cut[[2]uint64{n.id, lagging.id}], w.cut[[2]uint64{lagging.id, n.id}] = true, true
		}
		w.submit(lagging, "nobody else has it") // and conflicts
		w.settle()
		var leader *node
		for leader == nil {
			w.rest(1)
			for _, n := range w.nodes {
				if n != lagging && n.m.Leading() {
					leader = n
				}
			}
		}
		for i := range 200 {
			w.submit(leader, fmt.Sprint("b", i))
			w.settle()
		}
		whole := slices.Clone(leader.disk.entries)
		leader.disk.trim(2)
		clear(w.cut)
		fed := 0
		for round := 0; lagging.m.Committed() != leader.m.Committed(); round++ {
			if round > 20 {
				t.Fatalf("crash %d: still at LSN %d of %d", crashAt, lagging.m.Committed(), leader.m.Committed())
			}
			w.rest(resendTicks)
			if len(lagging.snaps) == 0 {
				continue
			}
			snap := lagging.snaps[0]
			lagging.snaps = nil
			next, err := lagging.m.StartFeed(snap)
			if err != nil {
				continue // of an earlier round
			}
			upTo := logcore.LSN(snap.GetSnapshot().GetMetadata().GetIndex())
			for part := 0; next <= upTo; part++ {
				end := min(next+50, upTo+1)
				if err := lagging.m.Feed(slices.Clone(whole[next-1:end-1]), func() { fed++ }); err != nil {
					t.Fatal(err)
				}
				next = end
				lagging.m.Advance()
				if part == crashAt {
					crashAt = -1
					lagging.disk.sync(1)
					w.crash(lagging)
					w.start(lagging)
					break
				}
				if ok, err := lagging.m.FinishFeed(); ok || err != nil {
					t.Fatalf("finished before it was durable: %v, %v", ok, err)
				}
			}
			w.settle()
			if lagging.m.feeding != nil {
				if ok, err := lagging.m.FinishFeed(); !ok || err != nil {
					t.Fatalf("not finished: %v, %v", ok, err)
				}
				lagging.m.Advance()
			}
		}
		if fed == 0 {
			t.Fatal("void: nothing was fed")
		}
		w.rest(3)
		w.submit(leader, "on")
		w.rest(3)
		for i, e := range lagging.disk.entries {
			if i < len(whole) && !sameEntry(e, whole[i]) {
				t.Fatalf("LSN %d differs", i+1)
			}
		}
		if lagging.m.Committed() != leader.m.Committed() || lagging.disk.cuts == 0 {
			t.Fatalf("at LSN %d of %d, %d cuts", lagging.m.Committed(), leader.m.Committed(), lagging.disk.cuts)
		}
	}
}

// TestFeedRefuses: entries with a gap, or beyond what a leader may be fed, change nothing; a feeding that
// stops leaves a member that takes appends again.
func TestFeedRefuses(t *testing.T) {
	w := newWorld(t, 43, 3)
	leader := w.lead()
	w.submit(leader, "a")
	w.rest(3)
	follower := w.nodes[int(leader.id)%3]
	snapshot, err := leader.m.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(follower.m.Committed()) + 5
	snapshot.Metadata.Index = &index
	msg := snapOf(leader, follower, snapshot)
	if _, err := leader.m.StartFeed(msg); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("a leader was to be fed: %v", err)
	}
	next, err := follower.m.StartFeed(msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.m.Feed([]logcore.Entry{{LSN: next + 1}}, func() {}); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("a gap: %v", err)
	}
	w.submit(leader, "while it is fed")
	w.rest(1)
	at := follower.m.Committed()
	follower.m.StopFeed()
	w.rest(electionTicks)
	if follower.m.Committed() == at || follower.m.Committed() != leader.m.Committed() {
		t.Fatalf("after the feeding stopped: LSN %d of %d", follower.m.Committed(), leader.m.Committed())
	}
	w.check()
}
