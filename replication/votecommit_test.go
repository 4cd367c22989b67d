package replication

import "testing"

// TestCommitByVote: a leader of two removes the other one, and crashes when the change is committed and
// it has not noted that: after the restart it counts the removed one in, who has an entry more and refuses its
// vote. It learns from the refusal that it is alone, and leads.
func TestCommitByVote(t *testing.T) {
	w := newWorld(t, 31, 2)
	leader := w.lead()
	w.rest(3)
	other := w.nodes[0]
	if other == leader {
		other = w.nodes[1]
	}
	before := leader.state
	var removed, more error // what becomes of them is not the point
	w.request(leader, func(p *Proposer) error { return p.ChangeMembers(MemberChange{Remove: []uint64{other.id}}) }, &removed)
	w.request(leader, func(p *Proposer) error { p.Propose(NewDraft(8, [16]byte{}, 0)); return nil }, &more)
	for range 6 { // the other one is quicker
		for len(w.net) > 0 {
			w.deliver(0)
		}
		other.disk.sync(len(other.disk.pending))
		other.m.Advance()
		leader.disk.sync(1)
		leader.m.Advance()
	}
	last := leader.m.Members().LSN
	if last == 0 || other.m.Members().LSN != last {
		t.Fatalf("void: the change is LSN %d at the leader, %d at the other one", last, other.m.Members().LSN)
	}
	leader.disk.pending = nil
	leader.disk.entries = leader.disk.entries[:last-leader.disk.first+1] // ends with the change
	leader.m, leader.state = nil, before                                 // and the state was not saved
	w.net = nil
	w.start(leader)
	if other.disk.Last() <= leader.disk.Last() {
		t.Fatalf("void: the other one's log ends at %d, the leader's at %d", other.disk.Last(), leader.disk.Last())
	}
	if now := w.lead(); now != leader {
		t.Fatalf("member %d leads", now.id)
	}
	sameMembers(t, leader, []uint64{leader.id}, nil)
}
