package replication

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// probationTicks is for how long a member that was just started takes no part in elections, unless it hears of a leader
// and catches up with it before: one longest election timeout.
const probationTicks = 2 * electionTicks

// probation is the time after a start. The disk may be an older one than it was: then this member may have
// acknowledged entries that it no longer holds, and its vote could elect somebody who doesn't hold them
// either. A leader that is in contact finds that out, or brings the entries back; so it is given the time to
// do so. When there is none, as after all members were restarted, the others can't be kept waiting for ever.
type probation struct {
	ticks int         // left; 0: it is over
	seen  logcore.LSN // what a leader has said is committed
}

// see notes what a leader says is committed.
func (p *probation) see(msg *raftpb.Message) {
	if t := msg.GetType(); p.ticks > 0 && (t == raftpb.MsgApp || t == raftpb.MsgHeartbeat) {
		p.seen = max(p.seen, logcore.LSN(msg.GetCommit()))
	}
}

// onProbation reports whether this member takes no part in elections yet.
func (m *Member) onProbation() bool {
	p := &m.probation
	if p.ticks > 0 && p.seen > 0 && m.Committed() >= p.seen {
		p.ticks = 0
	}
	return p.ticks > 0
}
