package pageserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
)

// errOtherIncarnation: the source has begun again since the state was made.
var errOtherIncarnation = errors.New("pageserver: the log service has another incarnation")

// errOtherHistory: the source never had, or no longer has, the entry ingested last.
var errOtherHistory = errors.New("pageserver: the log service has another history than the one these pages came from")

// confirm returns nil when the state of a log was made from a prefix of what the
// source has now. Otherwise Run is asked to throw the state away, which ends the
// follower.
//
// The incarnation alone does not prove it: a log service whose directory was put back
// from a copy keeps its own, and gives LSNs out again for other entries. The last entry
// does, since a history that has that very entry has every one before it.
func (s *Server) confirm(ctx context.Context, l *logState, info LogInfo) error {
	err := s.sameHistory(ctx, l, info)
	if !errors.Is(err, errOtherIncarnation) && !errors.Is(err, errOtherHistory) {
		return err
	}
	l.update(func() { l.foreign = l.foreign || errors.Is(err, errOtherHistory) })
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return err
}

func (s *Server) sameHistory(ctx context.Context, l *logState, info LogInfo) error {
	if err := s.checkHistory(ctx, l, info); err != nil {
		return err
	}
	l.update(func() { l.state.ingested = gapless(l.state, info) })
	return nil
}

// checkHistory compares the state of a log with what the source says of it, without a change.
func (s *Server) checkHistory(ctx context.Context, l *logState, info LogInfo) error {
	v := l.snapshot()
	switch {
	case info.Incarnation != v.incarnation || info.ID != l.id:
		return errOtherIncarnation
	case v.entry == 0:
	case info.Last < v.entry:
		return errOtherHistory
	case info.Last == v.entry:
		// The time tells as much as the entry, which may be far away in the archive.
		if info.LastTime != v.entryTime {
			return errOtherHistory
		}
	default:
		return s.hasLastEntry(ctx, info, v)
	}
	return nil
}

// hasLastEntry asks the source for the entry that was ingested last.
func (s *Server) hasLastEntry(ctx context.Context, info LogInfo, v stateValue) error {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	e, found, err := s.opts.Source.Entry(ctx, info, v.entry)
	switch {
	case errors.Is(err, logcore.ErrTrimmed):
		// Nothing is left to compare with, nor to build the pages from again.
		s.log.Warn("pageserver: the last entry ingested was given up: the history of these pages can't be compared", "log", info.Name, "lsn", uint64(v.entry))
		return nil
	case err != nil:
		return err
	case !found || !v.isLast(&e):
		return errOtherHistory
	}
	return nil
}

// gapless returns up to where nothing is missing in a state whose last entry is the
// source's. What an earlier stream said about the stretch behind that entry may have
// been about entries that are gone, in whose place others came.
func gapless(v stateValue, info LogInfo) logcore.LSN {
	through := v.entry
	if info.Last <= max(v.entry, v.branchLSN) { // a branch without entries has its parent's last one
		through = min(v.ingested, info.Committed)
	}
	return max(through, v.entry, v.branchLSN)
}

// carryOver takes the state of a log over into a new incarnation of the log service, and
// reports whether it could: when the log has the very last entry that was ingested, it was
// restored to a point behind all of the state. Whoever read the log meanwhile reads it anew.
// The caller holds adoptMu.
func (s *Server) carryOver(l *logState, info LogInfo) (bool, error) {
	s.runMu.Lock()
	f := s.running
	s.runMu.Unlock()
	if f != nil {
		f.stop(l)
	}
	v := l.snapshot()
	l.mu.Lock()
	foreign := l.foreign
	l.mu.Unlock()
	if p := l.parent; p != nil && p.info().Incarnation != info.Incarnation {
		// What a branch shows is its parent's, too: its parent comes first.
		return false, fmt.Errorf("pageserver: %w: the parent of branch %q is of another incarnation yet", logcore.ErrOverloaded, info.Name)
	}
	if foreign || v.incarnation == info.Incarnation || v.parent != info.Parent || v.branchLSN != info.BranchLSN || v.name != info.Name || info.Last < v.entry {
		return false, nil
	}
	if v.entry != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), sourceTimeout)
		defer cancel()
		e, found, err := s.opts.Source.Entry(ctx, info, v.entry)
		if errors.Is(err, logcore.ErrTrimmed) {
			return false, nil // nothing is left that would prove it
		}
		if err != nil || !found || !v.isLast(&e) {
			return false, err
		}
	}
	s.storeMu.Lock()
	defer s.storeMu.Unlock()
	if s.db == nil {
		return false, logcore.ErrClosed
	}
	before := v.incarnation
	// What an earlier stream said about the stretch behind the last entry was about another
	// incarnation's.
	v.incarnation, v.ingested = info.Incarnation, max(v.entry, v.branchLSN)
	key := appendLogKey(nil, tagState, l.id)
	if err := s.set(key, seal(key, encodeState(v))); err != nil {
		return false, s.noteStoreError(err)
	}
	s.dirty.Store(true)
	l.reset(v)
	s.metrics.carried.Inc()
	s.log.Info("pageserver: the log service was restored to a point behind all of these pages: they are kept", "log", info.Name, "lsn", uint64(v.entry), "incarnation", before, "now", info.Incarnation)
	return true, nil
}
