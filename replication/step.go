package replication

import (
	"fmt"

	"go.etcd.io/raft/v3"

	"github.com/logcore/logcore"
)

// guarded runs f. When the hot log could not be read in it, Raft panicked: that ends
// the member, not the process.
func (m *Member) guarded(f func()) {
	defer func() {
		if r := recover(); r != nil {
			if m.storage.err == nil {
				panic(r) // a bug
			}
			m.fail(fmt.Errorf("replication: shard %d can't be read: %w", m.state.Shard, m.storage.err))
		}
	}()
	f()
}

// askRoom looks whether the disk has room for so many bytes more, and sets full when it
// hasn't. The device is asked only when what it last said may be used up: by this log, or,
// what only matters when the next segment is due, by others.
func (m *Member) askRoom(need int64) {
	if m.full == nil && m.room >= need && !m.opts.Disk.SealDue() {
		m.room -= need
		return
	}
	if m.full != nil && m.sent < len(m.appends) {
		return // entries that were refused wait for room already
	}
	used, limit := m.opts.Disk.Pressure()
	m.room = limit - used - m.inflight
	if m.full = nil; m.room < need {
		m.full = fmt.Errorf("%w: the hot log of shard %d uses %d bytes of the %d it may: is the archive behind?", logcore.ErrDiskFull, m.state.Shard, used, limit)
		return
	}
	m.room = min(m.room-need, roomTrusted) // others use the device too
}

// close makes the member refuse what is queued from now on.
func (m *Member) close() {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
}

// finished refuses what is queued once the member closes, and reports whether nothing
// is under way any more.
func (m *Member) finished() bool {
	m.mu.Lock()
	closing := m.closing
	m.mu.Unlock()
	if !closing {
		return false
	}
	err := fmt.Errorf("replication: shard %d: %w", m.state.Shard, logcore.ErrClosed)
	m.refuseQueue(err)
	if m.sent > 0 && !m.failed {
		return false // the hot log will say
	}
	// What finds the disk full is given up: nobody was told that it is durable.
	m.finishAll(err)
	m.leading.Store(false)
	m.announce()
	return true
}

// Advance does everything there is to do now: it takes requests and completions, hands
// entries to the disk, sends messages, applies what is committed and tells the requests.
func (m *Member) Advance() { m.guarded(m.advance) }

func (m *Member) advance() {
	if m.quiet.now && m.asked() {
		m.rouse()
	}
	for !m.failed {
		m.takeCompletions()
		m.submitAppends()
		m.endFeeding()
		m.ready()
		if m.failed {
			break
		}
		m.takeReads()
		if m.leadDue && m.transfer == 0 {
			m.lead()
			continue
		}
		if m.spec == nil {
			m.refuseRequests()
		}
		if m.spec != nil && m.transfer == 0 && m.houseDue() {
			m.house()
			continue
		}
		if !m.propose() && len(m.due) == 0 && !m.rn.HasReady() {
			break
		}
	}
	if m.failed {
		m.refuseQueue(m.Err())
		m.takeCompletions()
	}
}

// asked reports whether there is a request or a read.
func (m *Member) asked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue) > 0 || len(m.reads) > 0
}

// refuseRequests tells those who came to a member that doesn't lead. One that is about
// to lead, or may be, keeps them for a moment: Open's caller knows nobody else to ask.
func (m *Member) refuseRequests() {
	switch leader := m.leader.Load(); {
	case m.told && m.full != nil:
		m.refuseQueue(m.full)
	case leader != 0 && leader != m.state.Member:
		m.refuseQueue(&logcore.NotLeaderError{Shard: m.state.Shard, Leader: leader})
	case leader == 0 && !m.state.soleVoter():
		m.refuseQueue(&logcore.NotLeaderError{Shard: m.state.Shard})
	}
}

// ready carries out what Raft wants done.
func (m *Member) ready() {
	for !m.failed {
		rd, ok := m.nextReady()
		if !ok {
			return
		}
		if rd.SoftState != nil {
			m.roleChanged(rd.SoftState)
		}
		for _, s := range rd.ReadStates {
			m.readAt(s)
		}
		sent := false
		for _, msg := range rd.Messages {
			switch msg.GetTo() {
			case raft.LocalAppendThread:
				if sent {
					m.opts.Sent()
				}
				m.storageAppend(msg)
			case raft.LocalApplyThread:
				m.apply(msg)
			default:
				m.send(msg)
				sent = sent || len(msg.GetEntries()) > 0
			}
		}
	}
}

// roleChanged follows what Raft says of who leads.
func (m *Member) roleChanged(s *raft.SoftState) {
	if s.Lead != 0 {
		m.election.gone = 0
	}
	m.election.reset(m.opts.Rand)
	m.transfer = 0
	if s.RaftState != raft.StateLeader {
		m.leadDue = false
		if m.spec != nil {
			m.resign()
		}
		m.refuseReads(&logcore.NotLeaderError{Shard: m.state.Shard, Leader: s.Lead})
	}
	if m.leader.Swap(s.Lead) != s.Lead {
		m.announce()
	}
}
