package replication

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// A change of members counts from the moment when it is applied, so a member may hold one, crash before
// it hears that it is committed, and then ask the members of before for their votes. One of those that is gone by
// the change and has an entry more refuses, may not lead itself, and nobody would ever lead again. So
// whoever refuses a vote says how far it has applied the log, and the candidate goes on from there.

// send sends a message of Raft's. A refused vote takes along what is committed here; Raft uses those
// fields in other messages only.
func (m *Member) send(msg *raftpb.Message) {
	switch msg.GetType() {
	case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		lsn := uint64(m.Committed())
		if term, err := m.storage.Term(lsn); err == nil && msg.GetReject() && lsn > 0 {
			msg.Commit, msg.LogTerm = &lsn, &term
		}
	}
	m.opts.Net.Send(msg)
}

// commitByVote learns from a refused vote that entries which this member holds are committed: the
// other one has applied an entry of the same index and term, so both logs are the same up to there. It reports
// whether Raft was begun afresh with that.
func (m *Member) commitByVote(msg *raftpb.Message) bool {
	lsn := logcore.LSN(msg.GetCommit())
	status := m.rn.BasicStatus()
	if !msg.GetReject() || uint64(lsn) <= status.HardState.GetCommit() || lsn > m.storage.last ||
		status.RaftState == raft.StateLeader || m.spec != nil || m.feeding != nil || len(m.appends) > 0 {
		return false
	}
	if term, err := m.storage.Term(uint64(lsn)); err != nil || term != msg.GetLogTerm() {
		return false
	}
	m.log.Info("replication: a member that refuses its vote has applied more of the log than was known here to be committed", "member", msg.GetFrom(), "lsn", lsn)
	if err := m.startOver(lsn); err != nil {
		m.fail(err)
	}
	return true
}
