package pageserver

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
)

// A transaction too large for one batch is in the store in part, under the position before
// it, until its last batch is. Should the page server end in between it comes again, and the
// same effects are written again; unless the log service has lost it meanwhile and has other
// entries there. So the store says that there are such effects, and whoever begins to follow
// the log removes them first.

// markSpilled adds to a batch, which is about to be applied, whether the store has a part of
// a transaction from then on.
func (c *committer) markSpilled(b *pebble.Batch, partial bool) error {
	key := appendLogKey(nil, tagSpilled, c.l.id)
	switch {
	case partial && !c.spilled:
		return b.Set(key, seal(key, nil), nil)
	case !partial && c.spilled:
		return b.Delete(key, nil)
	}
	return nil
}

// removeSpilled removes what the store has of a transaction in part. Nobody follows the log.
func (s *Server) removeSpilled(l *logState) error {
	spilled, err := s.hasSpilled(l)
	if err != nil || !spilled {
		return err
	}
	if err := s.removeAbove(l); err != nil {
		return err
	}
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	return s.db.Delete(appendLogKey(nil, tagSpilled, l.id), pebble.NoSync)
}

func (s *Server) hasSpilled(l *logState) (bool, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return false, logcore.ErrClosed
	}
	_, closer, err := s.db.Get(appendLogKey(nil, tagSpilled, l.id))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
}
