package replication

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// storageAppend is one MsgStorageAppend: its responses go back to Raft once its
// entries, and those of all before it, are durable.
type storageAppend struct {
	entries   []logcore.Entry
	bytes     int64
	done      bool // durable
	refused   bool // the disk had no room
	responses []*raftpb.Message
}

// storageAppend remembers term and vote and queues the entries for the hot log.
func (l *loop) storageAppend(m *raftpb.Message) {
	if m.Snapshot != nil {
		l.fail(errors.New("replication: a snapshot in a group of one"))
		return
	}
	if m.Term != nil && m.Vote != nil && (m.GetTerm() != l.state.Term || m.GetVote() != l.state.Vote) {
		next := l.state
		next.Term, next.Vote = m.GetTerm(), m.GetVote()
		if !l.saveState(next) {
			return
		}
		l.g.term.Store(next.Term)
	}
	a := storageAppend{responses: m.GetResponses()}
	if len(m.GetEntries()) > 0 {
		entries, err := l.storage.add(m.GetEntries())
		if err != nil {
			l.fail(err)
			return
		}
		if l.spec != nil && l.storage.last != l.spec.LSN {
			panic(fmt.Sprintf("replication: Raft appended up to LSN %d, the loop proposed up to %d", l.storage.last, l.spec.LSN))
		}
		a.entries = entries
		for _, e := range entries {
			a.bytes += int64(len(e.Payload)) + 64
		}
	}
	l.inflight += a.bytes
	l.appends = append(l.appends, a)
	l.submitAppends()
}

func (l *loop) saveState(next memberState) bool {
	if err := l.file.save(next); err != nil {
		l.fail(fmt.Errorf("%w: %w", logcore.ErrPoisoned, err))
		return false
	}
	l.state = next
	return true
}

// saveHint saves what only makes the next start quicker. A disk without room is no
// reason to stop then; the next checkpoint brings another one.
func (l *loop) saveHint(next memberState) {
	switch err := l.file.save(next); {
	case err == nil:
		l.state = next
	case errors.Is(err, logcore.ErrDiskFull):
		l.g.log.Warn("replication: the state file was not brought up to date", "err", err)
	default:
		l.fail(fmt.Errorf("%w: %w", logcore.ErrPoisoned, err))
	}
}

// submitAppends hands the next appends to the hot log, until it takes no more. An entry
// in Raft's log can't be taken back, so one that finds the disk full stays here, and is
// tried again with every tick, until there is room.
func (l *loop) submitAppends() {
	for l.sent < len(l.appends) && !l.failed && !l.held {
		a := &l.appends[l.sent]
		if len(a.entries) == 0 {
			a.done = true
			l.sent++
			continue
		}
		err := l.g.hot.Submit(a.entries, l.g.stored)
		switch {
		case err == nil:
			l.sent++
		case errors.Is(err, logcore.ErrOverloaded):
			return // a completion will make room
		case l.g.hot.Last()+1 < a.entries[0].LSN:
			return // what came before was refused just now; its completion is on its way
		default:
			l.fail(err)
			return
		}
	}
	l.stepResponses()
}

func (l *loop) takeCompletions() {
	g := l.g
	g.mu.Lock()
	completions := g.completions
	g.completions = nil
	g.mu.Unlock()
	for _, err := range completions {
		a := l.oldestUnderWay()
		switch {
		case err == nil:
			a.done = true
			l.goOn()
		case errors.Is(err, logcore.ErrDiskFull):
			a.refused, l.full = true, err
		default:
			l.fail(err)
			return
		}
	}
	l.takeBackRefused()
	l.stepResponses()
}

// oldestUnderWay returns the append that the next completion is for.
func (l *loop) oldestUnderWay() *storageAppend {
	for i := range l.appends[:l.sent] {
		if a := &l.appends[i]; !a.done && !a.refused {
			return a
		}
	}
	panic("replication: the hot log completed more than it was given")
}

// takeBackRefused makes refused appends ready to be handed over again, once nothing
// is under way any more: after a refused one the hot log refuses all that follow. Entries that
// became durable nevertheless, at the beginning of the first, are not written twice.
func (l *loop) takeBackRefused() {
	first := -1
	for i := range l.appends[:l.sent] {
		a := &l.appends[i]
		switch {
		case a.refused && first < 0:
			first = i
		case !a.done && !a.refused:
			return
		}
	}
	if first < 0 {
		return
	}
	last := l.g.hot.Last()
	for i := first; i < l.sent; i++ {
		a := &l.appends[i]
		a.refused, a.done = false, false
		for len(a.entries) > 0 && a.entries[0].LSN <= last {
			a.entries = a.entries[1:]
		}
	}
	l.sent, l.held = first, true
	l.stall(last + 1)
}

// stall tells everybody, once for each time the disk fills up, that entries wait for
// room. A member that can't even become leader then answers requests with the reason,
// and serves its readers, the archiver and the trimmer, which may make room.
func (l *loop) stall(from logcore.LSN) {
	if l.stalled {
		return
	}
	l.stalled = true
	l.g.log.Warn("replication: the disk is full, entries wait for room", "from", from, "err", l.full)
	l.g.catalogMu.RLock()
	known := l.g.applied.Incarnation == l.state.Incarnation
	l.g.catalogMu.RUnlock()
	l.g.mu.Lock()
	l.g.stalled, l.g.readable = l.full, known
	l.g.mu.Unlock()
	l.g.announce()
}

// goOn is the end of a stall.
func (l *loop) goOn() {
	if !l.stalled {
		return
	}
	l.stalled = false
	l.g.mu.Lock()
	l.g.stalled = nil
	l.g.mu.Unlock()
	l.g.log.Info("replication: there is room again")
}

// stepResponses tells Raft about the appends that are durable, in order.
func (l *loop) stepResponses() {
	n := 0
	for ; n < l.sent && l.appends[n].done && !l.failed; n++ {
		l.inflight -= l.appends[n].bytes
		for _, m := range l.appends[n].responses {
			if m.GetTo() != l.state.Member {
				l.g.log.Error("replication: a response to a member that this group does not have", "to", m.GetTo())
				continue
			}
			if err := l.rn.Step(m); err != nil {
				l.fail(fmt.Errorf("replication: step %v: %w", m.GetType(), err))
				return
			}
		}
	}
	clear(l.appends[:n])
	l.appends = l.appends[n:]
	l.sent -= n
}
