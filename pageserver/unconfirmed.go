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
// is told to go on at once, and the read waits for what it finds. While the follower reads the
// archive it finds out nothing; then the read itself makes sure that the log service has the
// history that the pages come from.
func (s *Server) answersUnconfirmed(ctx context.Context, l *logState, w want, deadline time.Time) bool {
	var unconfirmed []*logState
	catching := true // those unconfirmed, or at rest
	for a, need := l, w.lsn; a != nil; a = a.parent {
		a.mu.Lock()
		ingested, foreign, confirmed, busy := a.state.ingested, a.foreign, a.confirmed, a.catching || a.resting.rests
		a.mu.Unlock()
		_, settled := a.settled(want{lsn: need})
		confirmed = confirmed || settled
		if ingested < need || foreign {
			return false
		}
		if !confirmed {
			unconfirmed, catching = append(unconfirmed, a), catching && busy
		}
		need = min(need, a.branch.lsn)
	}
	if len(unconfirmed) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, min(probeTimeout, time.Until(deadline)/2))
	defer cancel()
	_, err := s.opts.Source.Info(ctx, l.name())
	if err != nil && !errors.Is(err, logcore.ErrLogNotFound) {
		return true
	}
	if err == nil && catching && s.stillSame(ctx, unconfirmed) {
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

// stillSame reports whether the log service has the history that logs were made from.
func (s *Server) stillSame(ctx context.Context, logs []*logState) bool {
	for _, l := range logs {
		info, err := s.opts.Source.Info(ctx, l.name())
		if err != nil || l.voidFor(info) != "" || s.checkHistory(ctx, l, info) != nil {
			return false
		}
	}
	return true
}
