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
func (l *loop) apply(m *raftpb.Message) {
	g := l.g
	entries := m.GetEntries()
	g.catalogMu.Lock()
	prev := g.applied.Time
	var err error
	var e logcore.Entry
	var checkpoint logcore.LSN
	for _, r := range entries {
		if r.GetType() != raftpb.EntryNormal {
			err = fmt.Errorf("%w: LSN %d changes the members of a group of one: use a newer build", logcore.ErrUnsupportedVersion, r.GetIndex())
			break
		}
		if e, err = fromRaft(r, prev); err != nil {
			break
		}
		if err = g.applied.Apply(e); err != nil {
			break
		}
		prev = e.Time
		if e.Kind == logcore.KindCheckpoint {
			checkpoint = e.LSN
		}
	}
	g.catalogMu.Unlock()
	if err != nil {
		if errors.Is(err, logcore.ErrCorrupt) {
			g.opts.Log.Corruptions.Inc()
		}
		l.fail(fmt.Errorf("replication: shard %d stops: %w", g.opts.Log.Shard, err))
		return
	}
	last := entries[len(entries)-1]
	l.storage.applied(logcore.LSN(last.GetIndex()))
	g.committed.Store(last.GetIndex())
	for _, r := range m.GetResponses() {
		if err := l.rn.Step(r); err != nil {
			l.fail(fmt.Errorf("replication: step %v: %w", r.GetType(), err))
			return
		}
	}
	l.afterApply(logcore.LSN(last.GetIndex()), last.GetTerm(), checkpoint)
}

func (l *loop) afterApply(lsn logcore.LSN, term uint64, checkpoint logcore.LSN) {
	status := l.rn.BasicStatus()
	if l.spec == nil && status.RaftState == raft.StateLeader && term == status.HardState.GetTerm() {
		l.leadDue = true
	}
	n := 0
	for ; n < len(l.waiting) && l.waiting[n].lsn <= lsn; n++ {
		l.waiting[n].done(nil)
	}
	clear(l.waiting[:n])
	l.waiting = l.waiting[n:]
	l.g.announce()
	l.settleIn(lsn)
	if checkpoint != 0 {
		l.g.newest.Store(uint64(checkpoint))
		next := l.state
		next.Commit = uint64(lsn)
		if l.g.applied.Incarnation == next.Incarnation {
			next.AnnounceIncarnation = false // a checkpoint holds it
		}
		l.saveHint(next)
	}
}

// fail ends the group: nothing is proposed or acknowledged any more. Readers still see
// what was applied.
func (l *loop) fail(err error) {
	if l.failed {
		return
	}
	l.failed = true
	l.g.log.Error("replication: the group stops", "err", err)
	if !errors.Is(err, logcore.ErrPoisoned) && !errors.Is(err, logcore.ErrClosed) {
		err = fmt.Errorf("%w: %w", logcore.ErrPoisoned, err)
	}
	l.g.mu.Lock()
	if l.g.err == nil {
		l.g.err = err
	}
	l.g.mu.Unlock()
	l.g.leading.Store(false)
	l.finishAll(err)
	l.refuseQueue(err)
	l.g.announce()
}

// finishAll tells every request that was proposed that its outcome is not known.
func (l *loop) finishAll(err error) {
	for _, w := range l.waiting {
		w.done(err)
	}
	l.waiting = nil
}

// refuseQueue tells every request that waits for the loop that it was not proposed.
func (l *loop) refuseQueue(err error) {
	g := l.g
	g.mu.Lock()
	queue := g.queue
	g.queue, g.queueBytes = nil, 0
	g.mu.Unlock()
	for _, r := range queue {
		r.Done(err)
	}
}
