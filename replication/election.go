package replication

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// election counts the ticks in which nothing was heard from a leader. The Raft library
// draws its own timeouts from a source that can't be seeded, so they are drawn here, and the
// library is told when to campaign; everything else about elections is its own.
type election struct {
	elapsed, timeout int
	ticks            int // ever, from 1
	gone             int // up to that tick the leader's process is known to have ended and no other leader is known; 0: it isn't
}

// reset begins to count anew, up to a random timeout from electionTicks to twice that. While the leader is known to be
// gone it is a short one: whoever could not be elected, because the other's probation was not over, tries again soon.
func (e *election) reset(rand *rand.Rand) {
	e.elapsed, e.timeout = 0, electionTicks+rand.IntN(electionTicks)
	if e.ticks < e.gone {
		e.timeout = goneTicks + rand.IntN(goneTicks)
	}
}

// heard notes that there is a leader.
func (e *election) heard(rand *rand.Rand) {
	if e.elapsed = 0; e.gone != 0 {
		e.gone = 0
		e.reset(rand)
	}
}

// Tick says that the time of one tick has passed: a leader sends its heartbeats, a
// follower that has heard of none for too long becomes a candidate. Call Advance then.
func (m *Member) Tick() {
	if m.failed || m.quiet.now {
		return
	}
	m.held = false
	m.election.ticks++
	m.guarded(m.tick)
	if m.spec != nil && m.checkpointDue && m.full != nil {
		m.askRoom(m.checkpointBytes) // nobody else does while there are no requests
	}
}

func (m *Member) tick() {
	if status := m.rn.BasicStatus(); status.RaftState == raft.StateLeader {
		m.watchDisk(logcore.LSN(status.HardState.GetCommit()))
		if m.fallQuiet() {
			return // its heartbeat is the last
		}
		m.rn.Tick()
		if m.transfer != 0 && m.rn.BasicStatus().LeadTransferee == 0 {
			m.transfer = 0 // it came to nothing: this member goes on
		}
		if m.election.ticks%resendTicks == 0 {
			m.resendSnapshots()
		}
		return
	}
	// The library's lease (a follower that heard of a leader lately ignores candidates)
	// counts on; only its own election does not begin.
	m.rn.TickQuiesced()
	if m.onProbation() {
		m.probation.tick()
	}
	m.election.elapsed++
	if m.election.elapsed >= m.election.timeout {
		m.election.reset(m.opts.Rand)
		m.campaign()
	}
}

// Campaign makes this member a candidate at once, if it may vote.
func (m *Member) Campaign() {
	if !m.failed {
		m.rouse()
		m.guarded(m.campaign)
	}
}

func (m *Member) campaign() {
	if !m.state.votes(m.state.Member) || m.feeding != nil || m.onProbation() {
		return
	}
	if err := m.rn.Campaign(); err != nil {
		m.fail(fmt.Errorf("replication: campaign: %w", err))
	}
}

// giveAway asks the voter that has most to stand for election at once: this member leads, and can't any more. It is only a
// hint, whoever is elected must have everything that was committed.
func (m *Member) giveAway() {
	if m.spec == nil {
		return
	}
	to, best := uint64(0), logcore.LSN(0)
	for id, p := range m.progress() {
		if id != m.state.Member && slices.Contains(m.Members().Voters, id) && p.Active && (p.Match > best || p.Match == best && id < to) {
			to, best = id, p.Match
		}
	}
	if to != 0 {
		term, from := m.state.Term, m.state.Member
		m.opts.Net.Send(&raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &from, To: &to, Term: &term})
	}
}

// resendTicks is how often a member that must be fed is told again: it may have crashed, or the
// message was lost. One that is being fed doesn't mind.
const resendTicks = 2 * electionTicks

func (m *Member) resendSnapshots() {
	progress := m.progress()
	for _, id := range m.Members().All() {
		if progress[id].Behind {
			m.rn.ReportSnapshot(id, raft.SnapshotFailure)
		}
	}
}

// Unreachable tells a leader that messages to a member were lost: it finds out again where that one is.
func (m *Member) Unreachable(id uint64) {
	if !m.failed {
		m.Rouse()
		m.guarded(func() { m.rn.ReportUnreachable(id) })
	}
}

const (
	// goneTicks bounds the random wait of a follower that knows its leader's process to have ended; between one try
	// to be elected and the next it is from that to twice that.
	goneTicks = 4
	// goneFor is for how many ticks such a follower tries so often. A probation that was begun just before is over by then.
	goneFor = probationTicks + electionTicks
)

// LeaderGone says that the process of a member has ended. A follower whose leader that was does not wait for the election
// timeout. It is only a hint: whether there is another leader is up to a majority, as ever.
func (m *Member) LeaderGone(id uint64) {
	if m.failed || id == m.state.Member || m.leader.Load() != id {
		return
	}
	m.rouse()
	m.guarded(func() {
		for range electionTicks {
			m.rn.TickQuiesced() // the lease: this follower listens to candidates from now on
		}
	})
	m.election.gone = m.election.ticks + goneFor
	m.election.timeout = m.election.elapsed + 1 + m.opts.Rand.IntN(goneTicks)
}
