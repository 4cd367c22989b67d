package replication

import (
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// storage is the hot log as Raft sees it. Only the loop uses it.
type storage struct {
	disk    Disk
	initial MemberState
	// recent holds the entries from the last applied one to the last handed to the log,
	// so that applying does not read them back. Its memory is bounded by what may be in flight.
	recent []*raftpb.Entry
	// last is the LSN and lastTime the time of the last entry handed to the log.
	last     logcore.LSN
	lastTime logcore.HLC
	// floor is what was applied when this member was last seen to lead; 0 when it doesn't.
	floor uint64
	// frozen, when not 0, is where the log ends for Raft while more is fed to it.
	frozen logcore.LSN
	// probing limits what Raft is given of the log to a probe's worth of it.
	probing bool
	// snapshot describes the log up to what is applied.
	snapshot func() (*raftpb.Snapshot, error)
	// err is why a read failed. Raft knows no such thing as an unreadable log and panics;
	// the loop finds the reason here.
	err error
}

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	st := s.initial
	return &raftpb.HardState{Term: &st.Term, Vote: &st.Vote, Commit: &st.Commit}, st.Members, nil
}

// probeBytesMax is about how much a message carries that is sent because a member was heard of.
const probeBytesMax = 16 << 10

// Entries implements raft.Storage.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if s.probing {
		maxSize = min(maxSize, probeBytesMax)
	}
	if len(s.recent) > 0 && lo >= s.recent[0].GetIndex() {
		from := lo - s.recent[0].GetIndex()
		to := hi - s.recent[0].GetIndex()
		if to > uint64(len(s.recent)) {
			return nil, raft.ErrUnavailable
		}
		return firstBytes(s.recent[from:to:to], maxSize), nil
	}
	entries, err := s.disk.Entries(logcore.LSN(lo), logcore.LSN(hi), int(min(maxSize, math.MaxInt32)))
	if errors.Is(err, logcore.ErrTrimmed) {
		return nil, raft.ErrCompacted
	}
	if err != nil {
		s.err = err
		return nil, err
	}
	out := make([]*raftpb.Entry, len(entries))
	for i, e := range entries {
		if out[i], err = toRaft(e); err != nil {
			s.err = err
			return nil, err
		}
	}
	return out, nil
}

// firstBytes cuts a list after about maxSize bytes, keeping at least one entry.
func firstBytes(entries []*raftpb.Entry, maxSize uint64) []*raftpb.Entry {
	var size uint64
	for i, e := range entries {
		size += uint64(len(e.GetData())) + 32
		if i > 0 && size > maxSize {
			return entries[:i:i]
		}
	}
	return entries
}

// Term implements raft.Storage.
func (s *storage) Term(i uint64) (uint64, error) {
	if len(s.recent) > 0 && i >= s.recent[0].GetIndex() {
		at := i - s.recent[0].GetIndex()
		if at >= uint64(len(s.recent)) {
			return 0, raft.ErrUnavailable
		}
		return s.recent[at].GetTerm(), nil
	}
	term, err := s.disk.Term(logcore.LSN(i))
	if errors.Is(err, logcore.ErrTrimmed) || err == nil && term == 0 && i > 0 {
		return 0, raft.ErrCompacted // 0: of an entry before an imported log, that nobody here knows
	}
	var lag *logcore.LagError
	if errors.As(err, &lag) {
		return 0, raft.ErrUnavailable
	}
	if err != nil {
		s.err = err
	}
	return term, err
}

// LastIndex implements raft.Storage.
func (s *storage) LastIndex() (uint64, error) {
	if s.frozen != 0 {
		return uint64(s.frozen - 1), nil
	}
	return uint64(s.last), nil
}

// appendsMax is how many entries behind what is applied a leader sends to a member one by one. One that
// lacks more is fed, so that reading old entries doesn't hold up the leader.
const appendsMax = 1 << 15

// FirstIndex implements raft.Storage.
func (s *storage) FirstIndex() (uint64, error) {
	first := uint64(s.disk.First())
	if s.floor > appendsMax {
		first = max(first, s.floor-appendsMax)
	}
	return first, nil
}

// Snapshot implements raft.Storage. It holds no data: a member that gets one is fed
// what it lacks of the log.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) { return s.snapshot() }

// reload reads where the log on the disk ends.
func (s *storage) reload() error {
	s.recent, s.frozen = nil, 0
	s.last = s.disk.Last()
	return s.loadTime()
}

// loadTime finds the time of the last entry.
func (s *storage) loadTime() error {
	s.lastTime = 0
	at := s.last
	for i := len(s.recent) - 1; i >= 0; i-- {
		r := s.recent[i]
		if r.GetType() == raftpb.EntryNormal && len(r.GetData()) >= draftHeaderBytes {
			s.lastTime = Draft(r.GetData()).entry(0, 0).Time
			return nil
		}
		at = logcore.LSN(r.GetIndex()) // a RAFT entry has the time of the one before it
	}
	if at < s.disk.First() {
		return nil
	}
	e, err := s.disk.Entries(at, at+1, 0)
	if err != nil {
		return err
	}
	s.lastTime = e[0].Time
	return nil
}

// add takes entries that are about to be handed to the log and returns them as they
// are stored.
func (s *storage) add(entries []*raftpb.Entry) ([]logcore.Entry, error) {
	out := make([]logcore.Entry, len(entries))
	last, lastTime := s.last, s.lastTime
	for i, r := range entries {
		e, err := fromRaft(r, lastTime)
		if err != nil {
			return nil, err
		}
		if e.LSN != last+1 {
			return nil, fmt.Errorf("replication: LSN %d after %d", e.LSN, last)
		}
		out[i], last, lastTime = e, e.LSN, e.Time
	}
	s.recent = append(s.recent, entries...)
	s.last, s.lastTime = last, lastTime
	return out, nil
}

// feed takes entries, already as they are stored, that come from elsewhere than Raft.
func (s *storage) feed(entries []logcore.Entry) {
	s.recent = nil
	last := entries[len(entries)-1]
	s.last, s.lastTime = last.LSN, last.Time
}

// cut drops the entries from first on, which the log no longer has.
func (s *storage) cut(first logcore.LSN) error {
	if n := len(s.recent); n > 0 && first > logcore.LSN(s.recent[0].GetIndex()) {
		keep := min(n, int(uint64(first)-s.recent[0].GetIndex()))
		s.recent = s.recent[:keep:keep] // what comes instead goes elsewhere: messages may hold this list
	} else {
		s.recent = nil
	}
	s.last = first - 1
	return s.loadTime()
}

// applied lets go of the entries before one that was applied. That one stays: Raft
// asks for its term again and again.
func (s *storage) applied(lsn logcore.LSN) {
	if len(s.recent) == 0 || uint64(lsn) <= s.recent[0].GetIndex() {
		return
	}
	n := min(int(uint64(lsn)-s.recent[0].GetIndex()), len(s.recent)-1)
	s.recent = s.recent[n:] // not cleared: messages that wait to be sent may hold a part of this list
}
