package replication

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// probationTicks is for how long a member that was just started takes no part in elections, unless it hears of a leader
// and catches up with it before: one longest election timeout.
const probationTicks = 2 * electionTicks

// contactTicks is for how many ticks from when it first hears of a leader such a member listens to what was committed by then. What is
// committed later is no part of what it may have forgotten: under load it would hardly ever hold all of that.
const contactTicks = 2

// probation is the time after a start. The disk may be an older one than it was: then this member may have
// acknowledged entries that it no longer holds, and its vote could elect somebody who doesn't hold them
// either. A leader that is in contact finds that out, or brings the entries back; so it is given the time to
// do so. When there is none, as after all members were restarted, the others can't be kept waiting for ever.
type probation struct {
	ticks   int         // left; 0: it is over
	seen    logcore.LSN // what a leader has said is committed, in the first contactTicks
	contact int         // ticks since a leader said something
}

// tick says that the time of one tick has passed.
func (p *probation) tick() {
	if p.ticks--; p.seen > 0 {
		p.contact++
	}
}

// see notes what a leader says is committed.
func (p *probation) see(msg *raftpb.Message) {
	if t := msg.GetType(); p.ticks > 0 && p.contact < contactTicks && (t == raftpb.MsgApp || t == raftpb.MsgHeartbeat) {
		p.seen = max(p.seen, logcore.LSN(msg.GetCommit()))
	}
}

// onProbation reports whether this member takes no part in elections yet.
func (m *Member) onProbation() bool {
	p := &m.probation
	if p.ticks > 0 && p.contact >= contactTicks && m.Committed() >= p.seen {
		p.ticks = 0
	}
	return p.ticks > 0
}
