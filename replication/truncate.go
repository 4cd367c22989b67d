package replication

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// rewriteFrom makes the log end before first, which a new leader has another entry for.
// Only what was never committed can be in its way; a hot log that would have to drop more is not
// this group's, and the member stops. It reports whether the member goes on.
//
// The disk's TruncateTail lowers the proof of what is durable before it erases entries, and a
// crash in between leaves a longer tail than wanted: the leader then finds the same
// conflict again. Nothing is lost with the entries: they were not committed, and those who wait for them
// have been told when this member's leadership ended.
func (m *Member) rewriteFrom(first logcore.LSN) bool {
	if first <= m.Committed() {
		m.opts.Corruptions.Inc()
		m.fail(fmt.Errorf("%w: replication: the leader would rewrite LSN %d, but entries up to %d were committed", logcore.ErrCorrupt, first, m.Committed()))
		return false
	}
	if m.opts.Disk.Last() >= first {
		m.log.Info("replication: the tail is rewritten", "from", first, "last", m.storage.last, "term", m.state.Term)
		if err := m.opts.Disk.TruncateTail(first - 1); err != nil {
			m.fail(fmt.Errorf("replication: truncate the tail behind LSN %d: %w", first-1, err))
			return false
		}
	}
	m.takeCompletions() // of what was under way: the truncation waited for it
	m.giveUp(first)
	if err := m.storage.cut(first); err != nil {
		m.fail(err)
		return false
	}
	return !m.failed
}

// giveUp takes entries from first on out of the appends that are not durable. Their
// acknowledgements are never sent: those would be of entries that nobody has.
func (m *Member) giveUp(first logcore.LSN) {
	for i := range m.appends {
		a := &m.appends[i]
		n := len(a.entries)
		for n > 0 && a.entries[n-1].LSN >= first {
			n--
		}
		if a.done || n == len(a.entries) {
			continue
		}
		m.inflight -= a.bytes
		a.entries = a.entries[:n]
		a.bytes = bytesOf(a.entries)
		m.inflight += a.bytes
		a.responses = onlyLocal(a.responses)
	}
}

// onlyLocal keeps what Raft wants to hear about its own storage: an append of an earlier term, which it
// ignores but for what else it says.
func onlyLocal(responses []*raftpb.Message) (kept []*raftpb.Message) {
	for _, r := range responses {
		if r.GetType() == raftpb.MsgStorageAppendResp {
			kept = append(kept, r)
		}
	}
	return kept
}
