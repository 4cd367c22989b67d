package pageserver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
)

// A branch that nobody writes rests: it has no follower, so thousands of them cost neither
// a goroutine nor a stream each. What it has is served as long as the stream of its root stands
// under which the log service said last what the branch is; a reader who wants more asks the
// log service, once. A branch whose writer is open is followed like any log.

// resting is a branch's rest.
type resting struct {
	asking    sync.Mutex // one reader asks at a time
	persisted atomic.Bool

	// Guarded by logState.mu.
	rests bool
	// session is the root's when the log service said last what the branch is.
	session uint64
}

// family returns the log that a branch descends from.
func (l *logState) family() *logState {
	for l.parent != nil {
		l = l.parent
	}
	return l
}

// sessionNow returns the session of a root: which of its streams stands; 0: none.
func (l *logState) sessionNow() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.confirmed {
		return 0
	}
	return l.session
}

// mayRest reports whether nobody writes the branch, and all that was written is ingested.
func (l *logState) mayRest(info LogInfo) bool {
	v := l.snapshot()
	return l.parent != nil && !info.WriterOpen && info.Last <= max(v.entry, v.branchLSN)
}

// sessions numbers the streams of this process.
var sessions atomic.Uint64

// rest notes that a branch is at rest. session is the root's when the log service was
// asked; 0: it has to be asked again before anything is served. The caller holds
// Server.runMu, and no follower of l runs.
func (l *logState) rest(session uint64) {
	l.update(func() {
		l.resting.rests, l.resting.session = true, session
		l.confirmed = false
	})
}

// settled reports whether a branch is at rest, and what is wanted of it is there.
func (l *logState) settled(w want) (rests, there bool) {
	session := l.family().sessionNow()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.resting.rests {
		return false, false
	}
	there = !w.newest && session != 0 && session == l.resting.session && l.state.ingested >= w.lsn
	return true, there
}

// waitFor returns once what is wanted of a log is there, with the LSN that it is served up
// to. A branch at rest is asked about, and followed when there is more of it.
func (s *Server) waitFor(ctx context.Context, l *logState, w want, deadline time.Time) (logcore.LSN, error) {
	for {
		switch rests, there := l.settled(w); {
		case there:
			return l.snapshot().ingested, nil
		case !rests:
			l.waiters.Add(1)
			lsn, err := l.wait(ctx, w, time.Until(deadline))
			l.waiters.Add(-1)
			if !errors.Is(err, errRests) {
				return lsn, err
			}
			continue
		}
		lsn, done, err := s.rouse(ctx, l, w, deadline)
		if err != nil || done {
			return lsn, err
		}
	}
}

// rouse asks the log service about a branch at rest. done: it has what is wanted, and is
// served up to an LSN. Otherwise it is followed, or has to be asked about again.
func (s *Server) rouse(ctx context.Context, l *logState, w want, deadline time.Time) (lsn logcore.LSN, done bool, err error) {
	root := l.family()
	if _, err := root.wait(ctx, want{}, time.Until(deadline)); err != nil {
		return 0, false, err
	}
	l.resting.asking.Lock()
	defer l.resting.asking.Unlock()
	if rests, there := l.settled(w); !rests || there {
		return 0, false, nil // somebody else asked meanwhile
	}
	session := root.sessionNow()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	info, err := s.sourceInfo(ctx, l.name())
	if err != nil {
		return 0, false, err
	}
	if fresh := s.adoptOne(info); fresh != l {
		return 0, false, errVanished
	}
	if !l.mayRest(info) || w.lsn > info.Committed {
		s.wake(l)
		return 0, false, nil
	}
	if err := s.confirm(ctx, l, info); err != nil {
		return 0, false, err
	}
	l.update(func() {
		l.state.ingested = max(l.state.ingested, info.Committed)
		l.caughtUp, l.resting.session = max(info.Last, l.state.branchLSN), session
		lsn = l.state.ingested
	})
	return lsn, session != 0 && session == root.sessionNow(), nil
}

// settle has a branch rest that is not followed, or has it followed. The caller holds
// Server.adoptMu.
func (s *Server) settle(l *logState, info LogInfo) {
	if !l.mayRest(info) {
		s.wake(l)
		return
	}
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if s.running == nil || s.running.follows(l) {
		return
	}
	if rests, _ := l.settled(want{}); rests {
		return
	}
	// No follower will do it: a branch at rest is served up to where its log is, past what is left of a transaction
	// that the log has lost.
	if err := s.removeSpilled(l); err != nil {
		s.log.Warn("pageserver: a branch is not served yet: what is left of a lost transaction could not be removed; tried again", "log", info.Name, "err", s.noteStoreError(err))
		return
	}
	l.rest(0)
	if err := s.chooseDecoder(l, info); err != nil {
		s.log.Debug("pageserver: a branch at rest can't be decoded", "log", info.Name, "err", err)
	}
	if !l.resting.persisted.Swap(true) {
		if err := s.persistNew(l); err != nil {
			l.resting.persisted.Store(false)
		}
	}
}

// wake has a branch followed.
func (s *Server) wake(l *logState) {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	l.update(func() { l.resting.rests = false })
	if s.running != nil {
		s.running.start(l, s.follow)
	}
}

// atRest has a branch that nobody writes any more followed no longer.
func (s *Server) atRest(l *logState, info LogInfo) {
	s.runMu.Lock()
	f := s.running
	s.runMu.Unlock()
	session := l.family().sessionNow()
	if f == nil || session == 0 || l.waiters.Load() > 0 || !l.idleFollower(info) {
		return
	}
	f.stop(l)
	if err := s.removeSpilled(l); err != nil { // what it was in the middle of, if the list is older
		s.log.Warn("pageserver: a branch does not rest yet; tried again", "log", info.Name, "err", s.noteStoreError(err))
		return
	}
	s.runMu.Lock()
	defer s.runMu.Unlock()
	switch {
	case s.running != f || f.follows(l): // somebody wanted it followed again
	case l.family().sessionNow() == session:
		l.rest(session)
	default:
		l.rest(0)
	}
}

// idleFollower reports whether a branch is followed in vain.
func (l *logState) idleFollower(info LogInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.resting.rests && l.confirmed && l.stopped == nil && l.state.ingested >= info.Last && info.Last <= max(l.state.entry, l.state.branchLSN)
}

// restIdle has the branches that nobody writes any more rest.
func (s *Server) restIdle(infos []LogInfo) {
	for _, info := range infos {
		if info.Parent == 0 || info.WriterOpen {
			continue
		}
		if l := s.registry.withID(info.ID); l != nil {
			s.atRest(l, info)
		}
	}
}
