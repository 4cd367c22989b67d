package replication

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// feeding is the catching up of a member that lacks entries which the leader's log no
// longer holds. They come from a peer's sealed segments or from the archive, committed ones only, and
// continue this member's own log; nothing is thrown away but a tail that was never committed. Raft
// is not told: for it the log ends where it did, and it begins afresh, as after a restart, once the
// log has grown.
type feeding struct {
	snapshot *raftpb.Message // the leader's, that made it begin
	next     logcore.LSN     // to be fed
	upTo     logcore.LSN     // what the leader said is committed
	stopped  bool            // it ends as soon as nothing is under way
}

// StartFeed begins to feed the member for a message that OnSnapshot was told of, and returns the first LSN
// to be fed. From then on it takes no entries of the leader until FinishFeed or StopFeed.
func (m *Member) StartFeed(snapshot *raftpb.Message) (logcore.LSN, error) {
	upTo := logcore.LSN(snapshot.GetSnapshot().GetMetadata().GetIndex())
	switch {
	case m.failed:
		return 0, m.Err()
	case m.feeding != nil || m.spec != nil || upTo <= m.Committed():
		return 0, fmt.Errorf("%w: replication: the log is not to be fed up to LSN %d now, %d is committed here", logcore.ErrInvalid, upTo, m.Committed())
	}
	m.feeding = &feeding{snapshot: snapshot, next: m.Committed() + 1, upTo: upTo}
	m.storage.frozen = m.storage.last + 1
	return m.feeding.next, nil
}

// Feed adds committed entries, which follow the last one fed. done is called once they are durable,
// on the goroutine that drives the member, and never when the member ends before. The entries belong to the member.
func (m *Member) Feed(entries []logcore.Entry, done func()) error {
	f := m.feeding
	switch {
	case m.failed:
		return m.Err()
	case f == nil || f.stopped:
		return fmt.Errorf("%w: replication: the log is not being fed", logcore.ErrInvalid)
	case len(entries) == 0 || entries[0].LSN != f.next:
		return fmt.Errorf("%w: replication: entries fed from LSN %d on, want from %d", logcore.ErrInvalid, firstOf(entries), f.next)
	}
	f.next = entries[len(entries)-1].LSN + 1
	fresh, err := m.skipKnown(entries)
	if err != nil {
		m.fail(err)
		return err
	}
	a := storageAppend{entries: fresh, then: done}
	if len(fresh) > 0 {
		if fresh[0].LSN <= m.storage.last && !m.rewriteFrom(fresh[0].LSN) {
			return m.Err()
		}
		m.storage.feed(fresh)
	}
	m.queueAppend(a)
	return nil
}

func firstOf(entries []logcore.Entry) logcore.LSN {
	if len(entries) == 0 {
		return 0
	}
	return entries[0].LSN
}

// skipKnown drops those entries at the beginning that the log holds.
func (m *Member) skipKnown(entries []logcore.Entry) ([]logcore.Entry, error) {
	for len(entries) > 0 && entries[0].LSN <= m.storage.last {
		term, err := m.storage.Term(uint64(entries[0].LSN))
		if err != nil && m.storage.err != nil {
			return nil, m.storage.err
		}
		if err != nil || term != entries[0].Term {
			break
		}
		entries = entries[1:]
	}
	return entries, nil
}

// FinishFeed ends the feeding once everything fed is durable: the member goes on with a log that is so
// much longer. It reports whether it does; with a short log it waits for more.
func (m *Member) FinishFeed() (bool, error) {
	f := m.feeding
	if f == nil || f.stopped || m.failed {
		return false, m.Err()
	}
	if f.next <= f.upTo || len(m.appends) > 0 {
		return false, nil
	}
	if term, err := m.opts.Disk.Term(f.upTo); err != nil || term != f.snapshot.GetSnapshot().GetMetadata().GetTerm() {
		err = errors.Join(err, fmt.Errorf("%w: replication: the log was fed up to LSN %d of term %d, the leader has term %d there", logcore.ErrCorrupt, f.upTo, term, f.snapshot.GetSnapshot().GetMetadata().GetTerm()))
		m.fail(err)
		return false, err
	}
	m.feeding = nil
	if err := m.startOver(f.upTo); err != nil {
		m.fail(err)
		return false, err
	}
	m.guarded(func() { m.rn.Step(f.snapshot) }) // its answer tells the leader how far this member is now
	return true, m.failure()
}

// StopFeed gives the feeding up; what was fed stays, and the next Advance in which nothing is under
// way ends it.
func (m *Member) StopFeed() {
	if m.feeding != nil {
		m.feeding.stopped = true
	}
}

// endFeeding carries StopFeed out.
func (m *Member) endFeeding() {
	f := m.feeding
	if f == nil || !f.stopped || len(m.appends) > 0 {
		return
	}
	m.feeding = nil
	if err := m.startOver(min(f.upTo, f.next-1)); err != nil {
		m.fail(err)
	}
}

// startOver begins with a fresh Raft state machine over the log as it is now, everything up to commit
// committed. Nothing is under way.
func (m *Member) startOver(commit logcore.LSN) error {
	if err := m.storage.reload(); err != nil {
		return err
	}
	if m.leader.Swap(0) != 0 {
		m.announce()
	}
	return m.startRaft(uint64(max(commit, m.Committed())))
}

func (m *Member) failure() error {
	if m.failed {
		return m.Err()
	}
	return nil
}
