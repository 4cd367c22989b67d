package replication

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// A change of members counts from the moment when it is applied, so a member may hold one, crash before
// it hears that it is committed, and then ask the members of before for their votes. One of those that is gone by
// the change and has an entry more refuses, may not lead itself, and nobody would ever lead again. So
// whoever asks for a vote or refuses one says how far the log is committed, and the other one goes on from there.

// send sends a message of Raft's. Votes take along what is committed here, in fields that Raft uses in other
// messages only.
func (m *Member) send(msg *raftpb.Message) {
	lsn := uint64(m.Committed())
	switch msg.GetType() {
	case raftpb.MsgHeartbeat:
		if len(msg.GetContext()) > 0 {
			m.reading.sent = msg.GetContext()
		}
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if term, err := m.storage.Term(lsn); err == nil && lsn > 0 {
			msg.Commit, msg.RejectHint = &lsn, &term
		}
	case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		if term, err := m.storage.Term(lsn); err == nil && lsn > 0 && msg.GetReject() {
			msg.Commit, msg.LogTerm = &lsn, &term
		}
	}
	m.opts.Net.Send(msg)
}

// commitByVote learns from a message about a vote that entries which this member holds are committed: the
// other one has applied an entry of the same index and term, so both logs are the same up to there. It reports
// whether Raft was begun afresh with that.
func (m *Member) commitByVote(msg *raftpb.Message, commitTerm uint64) bool {
	lsn := logcore.LSN(msg.GetCommit())
	status := m.rn.BasicStatus()
	if uint64(lsn) <= status.HardState.GetCommit() || lsn > m.storage.last ||
		status.RaftState == raft.StateLeader || m.spec != nil || m.feeding != nil || len(m.appends) > 0 {
		return false
	}
	if term, err := m.storage.Term(uint64(lsn)); err != nil || term != commitTerm {
		return false
	}
	m.log.Info("replication: a message about a vote says that more of the log is committed than was known here", "member", msg.GetFrom(), "lsn", lsn)
	if err := m.startOver(lsn); err != nil {
		m.fail(err)
	}
	return true
}
