package replication

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// waiting is a request that is told when lsn is applied.
type waiting struct {
	lsn  logcore.LSN
	done func(error)
}

// apply folds committed entries into the catalog, tells their requests, and lets
// readers see them.
func (m *Member) apply(msg *raftpb.Message) {
	entries := msg.GetEntries()
	checkpoint, err := m.fold(entries)
	for _, r := range entries {
		if err == nil && r.GetType() != raftpb.EntryNormal {
			err = m.applyMembers(r)
		}
	}
	if err != nil {
		if errors.Is(err, logcore.ErrCorrupt) {
			m.opts.Corruptions.Inc()
		}
		m.fail(fmt.Errorf("replication: shard %d stops: %w", m.state.Shard, err))
		return
	}
	last := entries[len(entries)-1]
	m.storage.applied(logcore.LSN(last.GetIndex()))
	m.committed.Store(last.GetIndex())
	if m.storage.floor = 0; m.spec != nil {
		m.storage.floor = last.GetIndex()
	}
	for _, r := range msg.GetResponses() {
		if err := m.rn.Step(r); err != nil {
			m.fail(fmt.Errorf("replication: step %v: %w", r.GetType(), err))
			return
		}
	}
	m.afterApply(logcore.LSN(last.GetIndex()), last.GetTerm(), checkpoint)
}

// fold folds committed entries into the catalog, and returns the last checkpoint among them, 0 when
// there is none.
func (m *Member) fold(entries []*raftpb.Entry) (checkpoint logcore.LSN, err error) {
	m.catalogMu.Lock()
	defer m.catalogMu.Unlock()
	prev := m.applied.Time
	for _, r := range entries {
		e, err := fromRaft(r, prev)
		if err != nil {
			return 0, err
		}
		if err := m.applied.Apply(e); err != nil {
			return 0, err
		}
		prev = e.Time
		switch e.Kind {
		case logcore.KindCheckpoint:
			checkpoint, m.unchecked = e.LSN, false
		case logcore.KindSeal:
			m.unchecked = true
		}
	}
	return checkpoint, nil
}

func (m *Member) afterApply(lsn logcore.LSN, term uint64, checkpoint logcore.LSN) {
	status := m.rn.BasicStatus()
	if m.spec == nil && status.RaftState == raft.StateLeader && term == status.HardState.GetTerm() {
		m.leadDue = true
	}
	n := 0
	for ; n < len(m.waiting) && m.waiting[n].lsn <= lsn; n++ {
		m.waiting[n].done(nil)
	}
	clear(m.waiting[:n])
	m.waiting = m.waiting[n:]
	m.announce()
	m.settleIn(lsn)
	if checkpoint != 0 {
		m.newest.Store(uint64(checkpoint))
		next := m.state
		next.Commit = uint64(lsn)
		if m.applied.Incarnation == next.Incarnation {
			next.AnnounceIncarnation = false // a checkpoint holds it
		}
		m.saveHint(next)
	}
}

// fail ends the group: nothing is proposed or acknowledged any more. Readers still see
// what was applied.
func (m *Member) fail(err error) {
	if m.failed {
		return
	}
	m.failed = true
	m.log.Error("replication: the group stops", "err", err)
	m.giveAway()
	if !errors.Is(err, logcore.ErrPoisoned) && !errors.Is(err, logcore.ErrClosed) {
		err = fmt.Errorf("%w: %w", logcore.ErrPoisoned, err)
	}
	m.mu.Lock()
	if m.err == nil {
		m.err = err
	}
	m.mu.Unlock()
	m.leading.Store(false)
	m.finishAll(err)
	m.refuseReads(err)
	m.refuseQueue(err)
	m.announce()
}

// finishAll tells every request that was proposed that its outcome is not known.
func (m *Member) finishAll(err error) {
	for _, w := range m.waiting {
		w.done(err)
	}
	m.waiting = nil
}

// refuseQueue tells every request that waits for the loop that it was not proposed.
func (m *Member) refuseQueue(err error) {
	m.mu.Lock()
	queue := m.queue
	m.queue, m.queueBytes = nil, 0
	m.mu.Unlock()
	for _, r := range queue {
		r.Done(err)
	}
}
