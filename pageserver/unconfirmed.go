package pageserver

import (
	"context"
	"errors"
	"time"

	"github.com/logcore/logcore"
)

// ofPast marks a read that asks what an LSN that it names held.
func (at ReadAt) ofPast() ReadAt {
	at.past = at.LSN != 0
	return at
}

// probeTimeout bounds the question whether the log service answers.
const probeTimeout = time.Second

// answersUnconfirmed reports whether a read at an LSN may be answered though the log
// service has not confirmed, since its stream broke, that the pages come from it.
//
// It may while nobody can know better: when the log and its ancestors are ingested as
// far as is asked, and the log service, asked after the read came, does not answer. The
// answer names the incarnation that it comes from, and for that one it is right: what an
// ingested LSN held never changes in it. The newest state is another matter: the service
// may have acknowledged more.
//
// A log service that does answer, restored perhaps, is always heard first: the follower
// is told to go on at once, and the read waits for what it finds.
func (s *Server) answersUnconfirmed(ctx context.Context, l *logState, w want, deadline time.Time) bool {
	unconfirmed := false
	for a, need := l, w.lsn; a != nil; a = a.parent {
		a.mu.Lock()
		ingested, foreign, confirmed := a.state.ingested, a.foreign, a.confirmed
		a.mu.Unlock()
		_, settled := a.settled(want{lsn: need})
		confirmed = confirmed || settled
		if ingested < need || foreign {
			return false
		}
		unconfirmed = unconfirmed || !confirmed
		need = min(need, a.branch.lsn)
	}
	if !unconfirmed {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, min(probeTimeout, time.Until(deadline)/2))
	defer cancel()
	_, err := s.opts.Source.Info(ctx, l.name())
	if err != nil && !errors.Is(err, logcore.ErrLogNotFound) {
		return true
	}
	for a := l; a != nil; a = a.parent {
		select {
		case a.again <- struct{}{}:
		default: // told already
		}
	}
	return false
}
