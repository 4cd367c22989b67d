package replication

import (
	"bytes"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/logcore/logcore"
)

// A group in which nothing happens falls quiet: its members neither tick nor say anything, so thousands of them cost
// nothing. The leader begins it, once for a while nothing was proposed and every member is known to hold all there
// is and to have been in contact; it says so in a last heartbeat. Any message and any request wakes a member, and one
// that wakes makes its leader heard of again, which wakes the others.
//
// What a group's heartbeats would have found out, that a member's process or the way to it is gone, somebody else must:
// the nodes keep an eye on each other, one link for all groups, and Rouse the groups concerned.
type quietness struct {
	now     bool
	idle    int         // ticks in which nothing happened
	last    logcore.LSN // of the log in the newest of them
	changed bool        // since the driver looked
}

// quietMark is the context of the heartbeat that makes a follower fall quiet.
var quietMark = []byte("quiet")

// Quiet reports whether the member has fallen quiet. It may be called from any goroutine.
func (v *view) Quiet() bool { return v.isQuiet.Load() }

func (m *Member) setQuiet(now bool) {
	if m.quiet.now != now {
		m.quiet.now, m.quiet.changed, m.quiet.idle = now, true, 0
		m.isQuiet.Store(now)
	}
}

// rouse wakes the member.
func (m *Member) rouse() {
	if m.quiet.now {
		m.setQuiet(false)
		m.election.heard(m.opts.Rand) // the leader is given the time to be heard of
	}
}

// Rouse wakes the member, which makes its leader heard of if there is one, and finds out if there is none.
func (m *Member) Rouse() {
	if m.failed || !m.quiet.now {
		return
	}
	m.rouse()
	leader, own, term := m.leader.Load(), m.state.Member, m.state.Term
	if leader != 0 && leader != own {
		m.opts.Net.Send(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: &own, To: &leader, Term: &term, Context: quietMark})
	}
}

// fallQuiet is called with every tick of a leader, and reports whether it has fallen quiet.
func (m *Member) fallQuiet() bool {
	if m.opts.QuietTicks == 0 {
		return false
	}
	if m.quiet.last != m.storage.last || !m.settled() {
		m.quiet.last, m.quiet.idle = m.storage.last, 0
		return false
	}
	if m.quiet.idle++; m.quiet.idle < m.opts.QuietTicks {
		return false
	}
	own, term, commit := m.state.Member, m.state.Term, uint64(m.storage.last)
	for _, id := range m.Members().All() {
		if id != own {
			m.opts.Net.Send(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &own, To: &id, Term: &term, Commit: &commit, Context: quietMark})
		}
	}
	m.setQuiet(true)
	return true
}

// settled reports whether there is nothing that this leader, or a member as it knows it, has to do.
func (m *Member) settled() bool {
	if m.spec == nil || !m.leading.Load() || m.inflight > 0 || len(m.appends) > 0 || len(m.waiting) > 0 || m.transfer != 0 || m.checkpointDue ||
		m.full != nil || len(m.reading.asked) > 0 || len(m.Members().Outgoing) > 0 || m.Committed() != m.storage.last || m.spec.LSN != m.storage.last {
		return false
	}
	settled := true
	m.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id != m.state.Member {
			active := m.election.ticks-m.heardAt[id] < electionTicks && m.heardAt[id] != 0
			settled = settled && active && pr.State == tracker.StateReplicate && logcore.LSN(pr.Match) == m.storage.last
		}
	})
	return settled
}

// hushed takes a leader's last heartbeat: the member falls quiet if it is where the leader thinks it is. Otherwise it is
// a heartbeat like any other. What a quiet leader's followers answered to the heartbeats before does not wake it.
func (m *Member) hushed(msg *raftpb.Message) (plain *raftpb.Message, done bool) {
	marked := bytes.Equal(msg.GetContext(), quietMark)
	if msg.GetType() == raftpb.MsgHeartbeatResp && !marked && m.quiet.now && msg.GetTerm() == m.state.Term {
		m.heardAt[msg.GetFrom()] = m.election.ticks
		return nil, true
	}
	if !marked {
		return msg, false
	}
	plain = proto.Clone(msg).(*raftpb.Message)
	plain.Context = nil
	if msg.GetType() != raftpb.MsgHeartbeat {
		return plain, false
	}
	last := m.storage.last
	if m.opts.QuietTicks > 0 && msg.GetTerm() == m.state.Term && msg.GetFrom() == m.leader.Load() && logcore.LSN(msg.GetCommit()) == last && m.Committed() == last &&
		m.feeding == nil && !m.onProbation() && slices.Contains(m.Members().All(), m.state.Member) {
		m.heardAt[msg.GetFrom()] = m.election.ticks
		m.election.heard(m.opts.Rand)
		m.setQuiet(true)
		return nil, true
	}
	return plain, false
}

// Rouse wakes the group's member if it is quiet.
func (g *Group) Rouse() {
	if g.Quiet() {
		g.call(func(m *Member) { m.Rouse() })
	}
}
