package replication

import (
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

// storage is the hot log as Raft sees it. Only the loop uses it.
type storage struct {
	log     *hotlog.Log
	initial memberState
	// recent holds the entries from the last applied one to the last handed to the log,
	// so that applying does not read them back. Its memory is bounded by what may be in flight.
	recent []*raftpb.Entry
	// last is the LSN and lastTime the time of the last entry handed to the log.
	last     logcore.LSN
	lastTime logcore.HLC
	// err is why a read failed. Raft knows no such thing as an unreadable log and panics;
	// the loop finds the reason here.
	err error
}

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	st := s.initial
	return &raftpb.HardState{Term: &st.Term, Vote: &st.Vote, Commit: &st.Commit}, st.Members, nil
}

// Entries implements raft.Storage.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if len(s.recent) > 0 && lo >= s.recent[0].GetIndex() {
		from := lo - s.recent[0].GetIndex()
		to := hi - s.recent[0].GetIndex()
		if to > uint64(len(s.recent)) {
			return nil, raft.ErrUnavailable
		}
		return firstBytes(s.recent[from:to:to], maxSize), nil
	}
	entries, err := s.log.Entries(logcore.LSN(lo), logcore.LSN(hi), int(min(maxSize, math.MaxInt32)))
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
	term, err := s.log.Term(logcore.LSN(i))
	if errors.Is(err, logcore.ErrTrimmed) {
		return 0, raft.ErrCompacted
	}
	return term, err
}

// LastIndex implements raft.Storage.
func (s *storage) LastIndex() (uint64, error) { return uint64(s.last), nil }

// FirstIndex implements raft.Storage.
func (s *storage) FirstIndex() (uint64, error) { return uint64(s.log.First()), nil }

// Snapshot implements raft.Storage. A member that needs one is fed from the archive.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
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
			return nil, fmt.Errorf("replication: LSN %d after %d: only a follower's tail may be rewritten, and this group has one member", e.LSN, last)
		}
		out[i], last, lastTime = e, e.LSN, e.Time
	}
	s.recent = append(s.recent, entries...)
	s.last, s.lastTime = last, lastTime
	return out, nil
}

// applied lets go of the entries before one that was applied. That one stays: Raft
// asks for its term again and again.
func (s *storage) applied(lsn logcore.LSN) {
	if len(s.recent) == 0 || uint64(lsn) <= s.recent[0].GetIndex() {
		return
	}
	n := min(int(uint64(lsn)-s.recent[0].GetIndex()), len(s.recent)-1)
	clear(s.recent[:n])
	s.recent = s.recent[n:]
}
