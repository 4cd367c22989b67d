package replication

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/logcore/logcore"
)

// Members are the members of a group.
type Members struct {
	Voters   []uint64
	Learners []uint64
	// Outgoing are the voters of the configuration that is being left, empty when no change is under
	// way. A decision needs a majority of both.
	Outgoing []uint64
	// LearnersNext become learners once the outgoing configuration is left.
	LearnersNext []uint64
	// LSN of the entry that made them so, 0 when the group was founded with them.
	LSN logcore.LSN
}

func membersOf(s MemberState) Members {
	c := s.Members
	return Members{Voters: c.GetVoters(), Learners: c.GetLearners(), Outgoing: c.GetVotersOutgoing(), LearnersNext: c.GetLearnersNext(), LSN: s.MembersLSN}
}

// Has reports whether id is a member in any role.
func (m Members) Has(id uint64) bool {
	return slices.Contains(m.Voters, id) || slices.Contains(m.Learners, id) || slices.Contains(m.Outgoing, id) || slices.Contains(m.LearnersNext, id)
}

// All returns every member once, in order.
func (m Members) All() []uint64 {
	out := slices.Concat(m.Voters, m.Learners, m.Outgoing, m.LearnersNext)
	slices.Sort(out)
	return slices.Compact(out)
}

// MemberChange is a change of the members, carried out as one.
type MemberChange struct {
	AddLearners []uint64 // those that copy the log and don't vote
	Promote     []uint64 // learners that have caught up, to voters
	Remove      []uint64 // voters or learners
}

// promoteLagMax is how many entries a learner may be behind when it is promoted: what is
// under way while the group is busy.
const promoteLagMax = 4096

// ChangeMembers proposes a change of the members. A change of more than one of them goes through a joint
// configuration, in which a decision needs a majority of the old members and one of the new; whoever leads
// leaves it as soon as it is committed, also after a crash. The errors are ErrMembersChanging,
// ErrNoMember, ErrLeads, ErrBehind for a learner that has not caught up, ErrQuorum for a change that would leave
// fewer working voters than a majority, and logcore.ErrInvalid.
func (p *Proposer) ChangeMembers(c MemberChange) error {
	m := p.m
	if m.changing > m.Committed() || len(m.Members().Outgoing) > 0 {
		return fmt.Errorf("%w: shard %d", ErrMembersChanging, m.state.Shard)
	}
	if err := m.checkChange(c); err != nil {
		return err
	}
	var cc raftpb.ConfChangeV2
	add := func(t raftpb.ConfChangeType, ids []uint64) {
		for _, id := range ids {
			cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: t.Enum(), NodeId: &id})
		}
	}
	add(raftpb.ConfChangeAddLearnerNode, c.AddLearners)
	add(raftpb.ConfChangeAddNode, c.Promote)
	add(raftpb.ConfChangeRemoveNode, c.Remove)
	if len(cc.Changes) > 1 {
		cc.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
	}
	p.members(&cc)
	return nil
}

// members proposes a change that was checked.
func (p *Proposer) members(cc *raftpb.ConfChangeV2) {
	data, err := proto.Marshal(cc)
	if err != nil {
		panic("replication: a change of members can't be encoded: " + err.Error())
	}
	spec := p.m.spec
	if err := spec.Apply(logcore.Entry{LSN: spec.LSN + 1, Kind: logcore.KindRaft, Time: spec.Time}); err != nil {
		panic("replication: a change of members is not valid in the catalog: " + err.Error())
	}
	p.batch = append(p.batch, proposed{data: data, members: true})
	p.bytes += int64(len(data))
	p.waitFor = spec.LSN
	p.m.changing = spec.LSN
}

// leaveDue reports whether a joint configuration is to be left.
func (m *Member) leaveDue() bool {
	return m.spec != nil && len(m.state.Members.GetVotersOutgoing()) > 0 && m.changing <= m.Committed()
}

func (p *Proposer) leaveJoint() { p.members(&raftpb.ConfChangeV2{}) }

// checkChange says why a change is not carried out.
func (m *Member) checkChange(c MemberChange) error {
	now, progress := m.Members(), m.progress()
	voters := slices.Clone(now.Voters)
	if len(c.AddLearners)+len(c.Promote)+len(c.Remove) == 0 {
		return fmt.Errorf("%w: a change of no members", logcore.ErrInvalid)
	}
	for _, id := range c.AddLearners {
		if id == 0 || now.Has(id) {
			return fmt.Errorf("%w: member %x is in the group already, or is none", logcore.ErrInvalid, id)
		}
	}
	if n := len(now.All()) + len(c.AddLearners); n > stateMembersMax {
		return fmt.Errorf("%w: %d members, at most %d", logcore.ErrInvalid, n, stateMembersMax)
	}
	for _, id := range c.Promote {
		p, ok := progress[id]
		if !ok || !slices.Contains(now.Learners, id) {
			return fmt.Errorf("%w: member %x is no learner of shard %d", ErrNoMember, id, m.state.Shard)
		}
		if !p.Active || p.Match+promoteLagMax < m.storage.last {
			return fmt.Errorf("%w: member %x has the log up to LSN %d, it ends at %d (in contact: %v)", ErrBehind, id, p.Match, m.storage.last, p.Active)
		}
		voters = append(voters, id)
	}
	for _, id := range c.Remove {
		if !now.Has(id) {
			return fmt.Errorf("%w: member %x is not in shard %d", ErrNoMember, id, m.state.Shard)
		}
		voters = slices.DeleteFunc(voters, func(v uint64) bool { return v == id })
	}
	if len(c.Promote)+len(c.Remove) == 0 {
		return nil
	}
	if err := m.checkQuorum(voters, progress); err != nil {
		return err
	}
	if slices.Contains(c.Remove, m.state.Member) {
		return fmt.Errorf("%w: member %x can't be removed from shard %d while it does: transfer the leadership to another voter first", ErrLeads, m.state.Member, m.state.Shard)
	}
	return nil
}

// checkQuorum refuses voters of which too few are in working order.
func (m *Member) checkQuorum(voters []uint64, progress map[uint64]Progress) error {
	working := 0
	for _, id := range voters {
		if id == m.state.Member || progress[id].Active {
			working++
		}
	}
	if need := len(voters)/2 + 1; working < need {
		return fmt.Errorf("%w: of the %d voters there would be, %d are in working order and %d are needed: repair or replace the others first", ErrQuorum, len(voters), working, need)
	}
	return nil
}

// applyMembers carries out a committed change, once: the state may already be that of
// a later one when the log is folded again.
func (m *Member) applyMembers(r *raftpb.Entry) error {
	lsn := logcore.LSN(r.GetIndex())
	if lsn <= m.state.MembersLSN {
		return nil
	}
	var cc raftpb.ConfChangeI
	var err error
	switch r.GetType() {
	case raftpb.EntryConfChangeV2:
		c := &raftpb.ConfChangeV2{}
		cc, err = c, proto.Unmarshal(r.GetData(), c)
	default:
		c := &raftpb.ConfChange{}
		cc, err = c, proto.Unmarshal(r.GetData(), c)
	}
	if err != nil {
		return fmt.Errorf("%w: LSN %d: change of members: %v", logcore.ErrCorrupt, lsn, err)
	}
	next := m.state
	next.Members, next.MembersLSN = m.rn.ApplyConfChange(cc), lsn
	if !m.saveState(next) {
		return m.Err()
	}
	m.log.Info("replication: members changed", "lsn", lsn, "voters", next.Members.GetVoters(), "learners", next.Members.GetLearners(), "outgoing", next.Members.GetVotersOutgoing())
	return nil
}

// Progress is how far another member is, as the leader knows it.
type Progress struct {
	Match   logcore.LSN // what it is known to hold
	Active  bool        // it was heard of within the shortest election timeout
	Learner bool
	Behind  bool // it needs entries that the leader's log no longer holds
}

// progress returns that of every other member; empty when this one doesn't lead.
func (m *Member) progress() map[uint64]Progress {
	out := map[uint64]Progress{}
	if m.rn.BasicStatus().RaftState != raft.StateLeader {
		return out
	}
	m.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id != m.state.Member {
			out[id] = Progress{Match: logcore.LSN(pr.Match), Active: m.election.ticks-m.heardAt[id] < electionTicks && m.heardAt[id] != 0,
				Learner: typ == raft.ProgressTypeLearner, Behind: pr.State == tracker.StateSnapshot}
		}
	})
	return out
}

// TransferLeader asks another voter to lead instead of this one.
func (p *Proposer) TransferLeader(to uint64) error {
	m := p.m
	if !slices.Contains(m.Members().Voters, to) {
		return fmt.Errorf("%w: member %x is no voter of shard %d", ErrNoMember, to, m.state.Shard)
	}
	if to == m.state.Member {
		return nil
	}
	if pr := m.progress()[to]; !pr.Active {
		return fmt.Errorf("%w: member %x was not heard of lately", ErrQuorum, to)
	}
	m.transfer = to
	return nil
}

// Progress returns how far the other members are; empty when this one does not lead.
func (p *Proposer) Progress() map[uint64]Progress { return p.m.progress() }

// snapshot describes the log up to what is applied, for a member whose log ends before
// this one's begins.
func (m *Member) snapshot() (*raftpb.Snapshot, error) {
	lsn := m.Committed()
	term, err := m.storage.Term(uint64(lsn))
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	index := uint64(lsn)
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: proto.Clone(m.state.Members).(*raftpb.ConfState)}}, nil
}
