package replication

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
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
	then      func() // once it is durable, for entries that did not come from Raft
}

// storageAppend remembers term and vote and queues the entries for the hot log.
func (m *Member) storageAppend(msg *raftpb.Message) {
	if msg.Snapshot != nil {
		m.fail(errors.New("replication: Raft would restore a snapshot, but a log is only ever continued"))
		return
	}
	if msg.Term != nil && msg.Vote != nil && (msg.GetTerm() != m.state.Term || msg.GetVote() != m.state.Vote) {
		next := m.state
		next.Term, next.Vote = msg.GetTerm(), msg.GetVote()
		if !m.saveState(next) {
			return
		}
		m.election.reset(m.opts.Rand)
	}
	a := storageAppend{responses: msg.GetResponses()}
	if entries := msg.GetEntries(); len(entries) > 0 {
		if first := logcore.LSN(entries[0].GetIndex()); first <= m.storage.last && !m.rewriteFrom(first) {
			return
		}
		stored, err := m.storage.add(entries)
		if err != nil {
			m.fail(err)
			return
		}
		if m.spec != nil && (m.storage.last > m.spec.LSN || m.storage.last != m.spec.LSN && len(m.due) == 0) {
			panic(fmt.Sprintf("replication: Raft appended up to LSN %d, the member proposed up to %d", m.storage.last, m.spec.LSN))
		}
		a.entries = stored
	}
	m.queueAppend(a)
}

// queueAppend puts an append behind those that are under way.
func (m *Member) queueAppend(a storageAppend) {
	a.bytes = bytesOf(a.entries)
	m.inflight += a.bytes
	m.appends = append(m.appends, a)
	m.submitAppends()
}

func bytesOf(entries []logcore.Entry) (n int64) {
	for i := range entries {
		n += int64(len(entries[i].Payload)) + 64
	}
	return n
}

func (m *Member) saveState(next MemberState) bool {
	if err := m.opts.Store.Save(next); err != nil {
		m.fail(fmt.Errorf("%w: %w", logcore.ErrPoisoned, err))
		return false
	}
	m.state = next
	m.showState()
	return true
}

// saveHint saves what only makes the next start quicker. A disk without room is no
// reason to stop then; the next checkpoint brings another one.
func (m *Member) saveHint(next MemberState) {
	switch err := m.opts.Store.Save(next); {
	case err == nil:
		m.state = next
	case errors.Is(err, logcore.ErrDiskFull):
		m.log.Warn("replication: the state file was not brought up to date", "err", err)
	default:
		m.fail(fmt.Errorf("%w: %w", logcore.ErrPoisoned, err))
	}
}

// submitAppends hands the next appends to the hot log, until it takes no more. An entry
// in Raft's log can't be taken back, so one that finds the disk full stays here, and is
// tried again with every tick, until there is room.
func (m *Member) submitAppends() {
	for m.sent < len(m.appends) && !m.failed && !m.held {
		a := &m.appends[m.sent]
		if len(a.entries) == 0 {
			a.done = true
			m.sent++
			continue
		}
		err := m.opts.Disk.Submit(a.entries, m.stored)
		switch {
		case err == nil:
			m.sent++
		case errors.Is(err, logcore.ErrOverloaded):
			return // a completion will make room
		case m.opts.Disk.Last()+1 < a.entries[0].LSN:
			return // what came before was refused just now; its completion is on its way
		default:
			m.fail(err)
			return
		}
	}
	m.stepResponses()
}

func (m *Member) takeCompletions() {
	m.mu.Lock()
	completions := m.completions
	m.completions = nil
	m.mu.Unlock()
	for _, err := range completions {
		a := m.oldestUnderWay()
		switch {
		case err == nil:
			a.done = true
			m.goOn()
		case errors.Is(err, logcore.ErrDiskFull):
			a.refused, m.full = true, err
		default:
			m.fail(err)
			return
		}
	}
	m.takeBackRefused()
	m.stepResponses()
}

// oldestUnderWay returns the append that the next completion is for.
func (m *Member) oldestUnderWay() *storageAppend {
	for i := range m.appends[:m.sent] {
		if a := &m.appends[i]; !a.done && !a.refused {
			return a
		}
	}
	panic("replication: the hot log completed more than it was given")
}

// takeBackRefused makes refused appends ready to be handed over again, once nothing
// is under way any more: after a refused one the hot log refuses all that follow. Entries that
// became durable nevertheless, at the beginning of the first, are not written twice.
func (m *Member) takeBackRefused() {
	first := -1
	for i := range m.appends[:m.sent] {
		a := &m.appends[i]
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
	last := m.opts.Disk.Last()
	for i := first; i < m.sent; i++ {
		a := &m.appends[i]
		a.refused, a.done = false, false
		for len(a.entries) > 0 && a.entries[0].LSN <= last {
			a.entries = a.entries[1:]
		}
	}
	m.sent, m.held = first, true
	m.stall(last + 1)
}

// stall tells everybody, once for each time the disk fills up, that entries wait for
// room. A member that can't even become leader then answers requests with the reason,
// and serves its readers, the archiver and the trimmer, which may make room.
func (m *Member) stall(from logcore.LSN) {
	if m.told {
		return
	}
	m.told = true
	m.log.Warn("replication: the disk is full, entries wait for room", "from", from, "err", m.full)
	m.catalogMu.RLock()
	known := m.applied.Incarnation == m.state.Incarnation
	m.catalogMu.RUnlock()
	m.mu.Lock()
	m.stalled, m.readable = m.full, known
	m.mu.Unlock()
	m.announce()
}

// goOn is the end of a stall.
func (m *Member) goOn() {
	if !m.told {
		return
	}
	m.told = false
	m.mu.Lock()
	m.stalled = nil
	m.mu.Unlock()
	m.log.Info("replication: there is room again")
}

// stepResponses tells Raft, and the members that wait for it, about the appends that are durable, in
// order.
func (m *Member) stepResponses() {
	n := 0
	for ; n < m.sent && m.appends[n].done && !m.failed; n++ {
		a := &m.appends[n]
		m.inflight -= a.bytes
		for _, msg := range a.responses {
			if msg.GetTo() != m.state.Member {
				m.send(msg)
			} else if err := m.rn.Step(msg); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) { // a leader that was removed
				m.fail(fmt.Errorf("replication: step %v: %w", msg.GetType(), err))
				return
			}
		}
		if a.then != nil {
			a.then()
		}
	}
	clear(m.appends[:n])
	m.appends = m.appends[n:]
	m.sent -= n
}
