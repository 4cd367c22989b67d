package replication

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// reading is the questions whether this member still leads. One is under way at a
// time; those who come meanwhile share the next.
type reading struct {
	question uint64 // number of the newest
	asked    []func(error)
	// sent is the mark of the newest question in the heartbeats that ask it.
	sent []byte
}

// readsMax bounds the reads that wait for the next question.
const readsMax = 1 << 16

// ReadIndex calls done, on the goroutine that drives the member, once everything that was committed
// anywhere when ReadIndex was called is applied here: what View shows and Committed covers from then on is
// what a linearizable read must see. A member that does not lead, or finds that it was deposed,
// answers with logcore.ErrNotLeader. It may be called from any goroutine; done must not block.
func (m *Member) ReadIndex(done func(error)) error {
	m.mu.Lock()
	if err := m.stateErr(); err != nil {
		m.mu.Unlock()
		return err
	}
	if len(m.reads) >= readsMax {
		m.mu.Unlock()
		return logcore.ErrOverloaded
	}
	m.reads = append(m.reads, done)
	m.mu.Unlock()
	m.opts.Wake()
	return nil
}

// takeReads asks the other members for those who wait.
func (m *Member) takeReads() {
	if len(m.reading.asked) > 0 {
		return
	}
	m.mu.Lock()
	reads := m.reads
	m.reads = nil
	m.mu.Unlock()
	if len(reads) == 0 {
		return
	}
	if !m.leading.Load() {
		err := &logcore.NotLeaderError{Shard: m.state.Shard, Leader: m.leader.Load()}
		for _, done := range reads {
			done(err)
		}
		return
	}
	m.reading.question++
	m.reading.asked = reads
	m.rn.ReadIndex(binary.LittleEndian.AppendUint64(nil, m.reading.question))
	m.ready()
}

// idle reports whether an answer to a heartbeat has nothing to say: the question it answers was answered by others, and
// the member was heard of in this tick already.
//
// Raft takes every answer of a member that lags as a reason to send it entries, and reads them from the log for that. A
// process that was stopped for a few seconds answers thousands of old questions at once: the leader would be busy
// for so long with reading the same entries again and again that it lost its leadership.
func (m *Member) idle(msg *raftpb.Message) bool {
	if len(msg.GetContext()) == 0 || m.heardAt[msg.GetFrom()] != m.election.ticks {
		return false
	}
	return len(m.reading.asked) == 0 || !bytes.Equal(msg.GetContext(), m.reading.sent)
}

// readAt is the answer to the question under way: a quorum still follows this leader.
func (m *Member) readAt(s raft.ReadState) {
	if len(s.RequestCtx) != 8 || binary.LittleEndian.Uint64(s.RequestCtx) != m.reading.question {
		return // of an earlier leadership
	}
	asked := m.reading.asked
	m.reading.asked = nil
	for _, done := range asked {
		if logcore.LSN(s.Index) <= m.Committed() {
			done(nil)
		} else {
			m.await(logcore.LSN(s.Index), done)
		}
	}
}

// refuseReads answers everybody who waits for the other members' word.
func (m *Member) refuseReads(err error) {
	asked := m.reading.asked
	m.reading.asked = nil
	m.mu.Lock()
	asked = append(asked, m.reads...)
	m.reads = nil
	m.mu.Unlock()
	for _, done := range asked {
		done(err)
	}
}
