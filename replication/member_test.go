package replication

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// ExampleMember shows three members in one goroutine; the disks and the network are those of the tests.
func ExampleMember() {
	w := newWorld(nil, 1, 3)
	leader := w.lead() // ticks, delivers messages and completes writes
	w.submit(leader, "hello")
	w.settle()
	fmt.Println("acknowledged:", len(w.acked))
	// Output: acknowledged: 1
}

// storm is a run of everything that can go wrong, in an order that its seed decides.
func storm(t testing.TB, seed uint64, steps int) *world {
	w := newWorld(t, seed, 3)
	body := 0
	for range steps {
		switch r := w.rnd.IntN(1000); {
		case r < 60:
			w.tick()
		case r < 400 && len(w.net) > 0:
			w.deliver(w.rnd.IntN(min(len(w.net), 8))) // reordered
		case r < 420 && len(w.net) > 0:
			i := w.rnd.IntN(len(w.net))
			w.net = append(w.net[:i], w.net[i+1:]...) // lost
		case r < 440 && len(w.net) > 0 && len(w.net) < 500:
			w.net = append(w.net, w.net[w.rnd.IntN(len(w.net))]) // doubled
		case r < 750:
			n := w.nodes[w.rnd.IntN(3)]
			if n.m != nil {
				n.disk.sync(1 + w.rnd.IntN(3))
				n.m.Advance()
			}
		case r < 960:
			n := w.nodes[w.rnd.IntN(3)]
			if n.m != nil {
				body++
				w.submit(n, fmt.Sprint("body ", body))
			}
		case r < 966:
			n := w.nodes[w.rnd.IntN(3)]
			if n.m != nil {
				w.crash(n)
			}
		case r < 980:
			n := w.nodes[w.rnd.IntN(3)]
			if n.m == nil {
				w.start(n)
			}
		case r < 985:
			a, b := uint64(1+w.rnd.IntN(3)), uint64(1+w.rnd.IntN(3))
			w.cut[[2]uint64{a, b}] = true
		case r < 1000:
			clear(w.cut)
		}
		if steps <= 5000 || w.rnd.IntN(10) == 0 {
			w.check()
		}
	}
	// Everything heals: a leader is found, and all three come to the same end.
	clear(w.cut)
	for _, n := range w.nodes {
		if n.m == nil {
			w.start(n)
		}
	}
	acked := len(w.acked)
	w.submit(w.lead(), "the last word")
	for range 60 {
		w.settle()
		w.tick()
	}
	w.check()
	if len(w.acked) == acked {
		t.Fatalf("seed %d: no progress after the faults", seed)
	}
	for _, n := range w.nodes[1:] {
		if n.m.Committed() != w.nodes[0].m.Committed() {
			t.Fatalf("seed %d: member %d is at LSN %d, member 1 at %d", seed, n.id, n.m.Committed(), w.nodes[0].m.Committed())
		}
	}
	return w
}

// TestStorm (I1, I2): whatever is lost, doubled, reordered or crashes, no acknowledged entry is lost,
// and the members agree.
func TestStorm(t *testing.T) {
	acked, cuts := 0, 0
	for seed := range uint64(120) {
		w := storm(t, seed, 2500)
		acked += len(w.acked)
		for _, n := range w.nodes {
			cuts += n.disk.cuts
		}
	}
	t.Logf("%d acknowledged, %d conflicting tails rewritten", acked, cuts)
	if acked < 2000 || cuts < 20 {
		t.Fatalf("void: %d acknowledged, %d tails rewritten", acked, cuts)
	}
}

// TestSameSeedSameRun: a run is a function of its seed, message by message.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(3) {
		a, b := storm(t, seed, 3000), storm(t, seed, 3000)
		if a.hash != b.hash || len(a.acked) != len(b.acked) {
			t.Fatalf("seed %d: two runs, hashes %x and %x, %d and %d acknowledged", seed, a.hash, b.hash, len(a.acked), len(b.acked))
		}
	}
	if storm(t, 1, 3000).hash == storm(t, 2, 3000).hash {
		t.Fatal("void: two seeds make the same run")
	}
}

// TestConflictingTail: what a deposed leader wrote and nobody else has gives way to what was committed
// without it; it is durable on the old leader, and rewritten with the same entries as on the others.
func TestConflictingTail(t *testing.T) {
	w := newWorld(t, 5, 3)
	old := w.lead()
	w.submit(old, "kept")
	w.settle()
	for _, n := range w.nodes {
		w.cut[[2]uint64{old.id, n.id}], w.cut[[2]uint64{n.id, old.id}] = true, true
	}
	for i := range 5 {
		w.submit(old, fmt.Sprint("lost ", i))
	}
	w.settle()
	last := old.disk.Durable()
	var next *node
	for range 200 {
		w.tick()
		w.settle()
		for _, n := range w.nodes {
			if n != old && n.m.Leading() {
				next = n
			}
		}
	}
	if next == nil || old.m.Leading() {
		t.Fatal("no other leader, or the old one did not notice")
	}
	for i := range 3 {
		w.submit(next, fmt.Sprint("new ", i))
	}
	w.settle()
	clear(w.cut)
	for range 30 {
		w.tick()
		w.settle()
	}
	w.check()
	if old.disk.cuts == 0 || old.m.Committed() != next.m.Committed() || last < 5 || len(w.acked) != 4 {
		t.Fatalf("cuts %d, committed %d and %d, %d acknowledged", old.disk.cuts, old.m.Committed(), next.m.Committed(), len(w.acked))
	}
}

// TestOlderDisk (F9): a member whose disk is an older one than it was stops for good when the leader
// tells it what it had acknowledged; it takes no part in votes after a restart either.
func TestOlderDisk(t *testing.T) {
	w := newWorld(t, 9, 3)
	leader := w.lead()
	w.submit(leader, "a")
	w.settle()
	var victim *node
	for _, n := range w.nodes {
		if n != leader {
			victim = n
		}
	}
	disk, state := *victim.disk, victim.state
	for i := range 10 {
		w.submit(leader, fmt.Sprint("b", i))
		w.settle()
	}
	w.crash(victim)
	victim.disk, victim.state = &disk, state
	w.start(victim)
	w.tick()
	w.settle()
	if err := victim.m.Err(); !errors.Is(err, ErrStaleMember) {
		t.Fatalf("a member on an older disk: %v", err)
	}
	if !victim.state.Stale {
		t.Fatal("it is forgotten at the next start")
	}
	if err := victim.m.Step(&raftpb.Message{Type: raftpb.MsgVote.Enum(), To: &victim.id}); !errors.Is(err, ErrStaleMember) {
		t.Fatalf("asked for its vote: %v", err)
	}
	w.submit(leader, "goes on")
	w.settle()
	w.check()
}

// TestNoVoteAfterAStart (F9): a member on an older disk does not help to elect somebody who lacks what it had
// acknowledged, as long as the leader is there to tell it; one that is alone with its peers after a restart of all does vote.
func TestNoVoteAfterAStart(t *testing.T) {
	w := newWorld(t, 13, 3)
	leader := w.lead()
	w.rest(2)
	var others []*node
	for _, n := range w.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	victim, behind := others[0], others[1]
	disk, state := *victim.disk, victim.state
	disk.entries = append([]logcore.Entry(nil), disk.entries...)
	for _, n := range w.nodes { // behind hears of nothing any more
		w.cut[[2]uint64{n.id, behind.id}] = true
	}
	w.submit(leader, "the leader and the victim have it")
	w.settle()
	if len(w.acked) != 1 {
		t.Fatal("not acknowledged")
	}
	w.crash(victim)
	victim.disk, victim.state = &disk, state
	w.start(victim)
	delete(w.cut, [2]uint64{victim.id, behind.id})
	w.cut[[2]uint64{leader.id, victim.id}] = true // and is not heard yet
	for range electionTicks + 5 {
		for _, n := range []*node{victim, behind} {
			n.m.Tick()
			n.m.Advance()
		}
		behind.m.Campaign()
		behind.m.Advance()
		w.settle()
		if behind.m.Leading() || behind.m.Term() != leader.m.Term() {
			t.Fatal("a member that lacks an acknowledged entry was elected with the vote of one that lost it")
		}
	}
	w.cut[[2]uint64{leader.id, victim.id}] = false
	w.rest(1)
	if err := victim.m.Err(); !errors.Is(err, ErrStaleMember) {
		t.Fatalf("the leader is back: %v", err)
	}

	// All are restarted: they come to a leader by themselves.
	w = newWorld(t, 14, 3)
	w.submit(w.lead(), "kept")
	w.settle()
	for _, n := range w.nodes {
		w.crash(n)
		w.start(n)
	}
	w.submit(w.lead(), "goes on")
	w.rest(2)
	w.check()
	if len(w.acked) != 2 {
		t.Fatal("no leader after a restart of all")
	}
}

// TestReadIndex: a leader that was deposed without knowing doesn't answer a linearizable read.
func TestReadIndex(t *testing.T) {
	w := newWorld(t, 11, 3)
	leader := w.lead()
	w.submit(leader, "a")
	w.settle()
	var answers []error
	ask := func(n *node) {
		if err := n.m.ReadIndex(func(err error) { answers = append(answers, err) }); err != nil {
			t.Fatal(err)
		}
		n.m.Advance()
	}
	ask(leader)
	if len(answers) != 0 {
		t.Fatal("answered without asking the others")
	}
	w.settle()
	if len(answers) != 1 || answers[0] != nil {
		t.Fatalf("answers %v", answers)
	}
	for _, n := range w.nodes {
		w.cut[[2]uint64{leader.id, n.id}] = true
		w.cut[[2]uint64{n.id, leader.id}] = true
	}
	ask(leader)
	w.settle()
	if len(answers) != 1 {
		t.Fatalf("answered from a minority: %v", answers)
	}
	for range 40 {
		w.tick()
		w.settle()
	}
	if len(answers) != 2 || !errors.Is(answers[1], logcore.ErrNotLeader) {
		t.Fatalf("after it was deposed: %v", answers)
	}
	for _, n := range w.nodes {
		if !n.m.Leading() {
			ask(n)
			if err := answers[len(answers)-1]; !errors.Is(err, logcore.ErrNotLeader) {
				t.Fatalf("a follower answered: %v", err)
			}
		}
	}
}

// TestLeaderGone: followers that know their leader's process to have ended elect another one within a few ticks; a follower
// that is told so of a leader that lives changes nothing.
func TestLeaderGone(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, 60+seed, 3)
		leader := w.lead()
		w.rest(3)
		term := leader.m.Term()
		for _, n := range w.nodes {
			if n != leader {
				n.m.LeaderGone(leader.id)
				break // the other one doesn't believe it
			}
		}
		w.rest(3)
		if !leader.m.Leading() || leader.m.Term() != term {
			t.Fatalf("seed %d: one follower's word deposed a leader that lives", seed)
		}
		w.crash(leader)
		for _, n := range w.nodes {
			if n != leader {
				n.m.LeaderGone(leader.id)
			}
		}
		w.rest(goneTicks + 1)
		led := false
		for _, n := range w.nodes {
			led = led || n != leader && n.m.Leading()
		}
		if !led {
			w.rest(2 * electionTicks) // a split vote
		}
		w.start(leader)
		w.submit(w.lead(), "goes on")
		w.rest(3)
		w.check()
		if len(w.acked) != 1 {
			t.Fatalf("seed %d: %d acknowledged", seed, len(w.acked))
		}
	}
}

// TestLeaderGoneDuringProbation: the leader's process ends while one of the others was just started and has not caught up. The third is
// elected soon after that one may vote, and not an election timeout later.
func TestLeaderGoneDuringProbation(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, 90+seed, 3)
		leader := w.lead()
		w.rest(3)
		var others []*node
		for _, n := range w.nodes {
			if n != leader {
				others = append(others, n)
			}
		}
		started, voter := others[0], others[1]
		w.crash(started)
		w.start(started)
		w.cut[[2]uint64{leader.id, started.id}] = true // it does not hear of the leader
		w.crash(leader)
		voter.m.LeaderGone(leader.id)
		w.rest(probationTicks - 1)
		if voter.m.Leading() {
			t.Fatalf("seed %d: elected with the vote of a member on probation", seed)
		}
		w.rest(2*goneTicks + 1)
		if !voter.m.Leading() && !started.m.Leading() {
			t.Fatalf("seed %d: nobody leads %d ticks after the probation", seed, 2*goneTicks)
		}
	}
}

// TestProbationEndsUnderLoad: a member that was started and caught up with what was committed when it first heard of the leader may
// vote, although more is committed all the time; before it did, it may not.
func TestProbationEndsUnderLoad(t *testing.T) {
	w := newWorld(t, 131, 3)
	leader := w.lead()
	w.submit(leader, "a")
	w.rest(3)
	var others []*node
	for _, n := range w.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	started := others[0]
	w.crash(started)
	for i := range 10 {
		w.submit(leader, fmt.Sprint("missed", i))
		w.settle()
	}
	behind := w.acked
	w.start(started)
	for range contactTicks + 1 { // it learns what is committed, and gets nothing of it: its disk is slow
		w.tick()
		for len(w.net) > 0 {
			w.deliver(0)
		}
		for _, n := range w.nodes {
			if n != started {
				n.disk.sync(100)
				n.m.Advance()
			}
		}
	}
	if !started.m.onProbation() {
		t.Fatalf("it may vote, and holds %d of %d entries", started.m.Committed(), len(behind))
	}
	caughtUp := started.m.probation.seen
	for i := range 40 {
		w.submit(leader, fmt.Sprint("more", i))
		w.settle()
		w.submit(leader, fmt.Sprint("under way", i)) // committed by the others, and what the leader says of it comes first
		w.tick()
		if started.m.Committed() >= caughtUp && !started.m.onProbation() {
			break
		}
	}
	if started.m.onProbation() || started.m.probation.seen != caughtUp {
		t.Fatalf("still on probation at LSN %d, until LSN %d, first %d", started.m.Committed(), started.m.probation.seen, caughtUp)
	}
	w.settle()
	w.check()
}

// TestGivenUpIsNotAcknowledged: entries that a full disk kept from becoming durable give way to those of another leader; nobody
// is ever told that they were durable.
func TestGivenUpIsNotAcknowledged(t *testing.T) {
	w := newWorld(t, 71, 3)
	old := w.lead()
	w.submit(old, "all have it")
	w.rest(2)
	var full, other *node
	for _, n := range w.nodes {
		switch {
		case n == old:
		case full == nil:
			full = n
		default:
			other = n
		}
	}
	first, term := old.m.storage.last+1, old.m.Term()
	w.plant = func(n *node, m *raftpb.Message) bool {
		if m.GetFrom() == full.id && m.GetType() == raftpb.MsgAppResp && !m.GetReject() && m.GetTerm() == term && logcore.LSN(m.GetIndex()) >= first {
			t.Errorf("LSN %d of term %d is said to be durable", m.GetIndex(), term)
		}
		return true
	}
	full.disk.full = true
	w.cut[[2]uint64{old.id, other.id}] = true
	w.submit(old, "only on its way")
	for len(w.net) > 0 {
		w.deliver(0)
	}
	full.disk.sync(1)
	full.m.Advance()
	if full.m.storage.last < first || full.disk.Durable() >= first {
		t.Fatalf("void: LSN %d is handed over up to %d, durable up to %d", first, full.m.storage.last, full.disk.Durable())
	}
	old.disk.pending = nil // and the leader loses it too
	w.crash(old)
	w.start(old)
	clear(w.cut)
	for _, n := range w.nodes {
		w.cut[[2]uint64{full.id, n.id}], w.cut[[2]uint64{n.id, full.id}] = true, true
	}
	next := w.lead()
	w.submit(next, "instead of it")
	w.rest(2)
	clear(w.cut)
	w.rest(3)
	full.disk.full = false
	w.rest(5)
	w.check()
	if len(w.acked) != 2 || full.m.Committed() != next.m.Committed() {
		t.Fatalf("%d acknowledged, committed %d and %d", len(w.acked), full.m.Committed(), next.m.Committed())
	}
}
