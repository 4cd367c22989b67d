package pageserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
)

// ancestorsMax bounds how many damaged ancestors of a page are healed on its behalf.
const ancestorsMax = 64

// heal rebuilds one version of a page from the log and stores it as an image in place
// of the damaged one. It counts the damage.
func (s *Server) heal(ctx context.Context, d *damagedPage) error {
	s.healMu.Lock()
	defer s.healMu.Unlock()
	err := s.healOne(ctx, d)
	var below *damagedPage
	for range ancestorsMax {
		if !errors.As(err, &below) || below.same(d) {
			break
		}
		// It builds on a page, its parent's or one that it was copied from, which is damaged
		// as well: that one first.
		if err = s.healOne(ctx, below); err == nil {
			err = s.healOne(ctx, d)
		}
	}
	return err
}

// same reports whether two are the same version.
func (e *damagedPage) same(d *damagedPage) bool {
	return e.owner == d.owner && e.space == d.space && e.page == d.page && e.at == d.at
}

// healOne heals one version, provided that the parent's page is sound. The caller
// holds healMu.
func (s *Server) healOne(ctx context.Context, d *damagedPage) error {
	if sound, err := s.isSound(d); sound || err != nil {
		return err // somebody else healed it
	}
	s.countDamage(d)
	end, err := s.endOfRun(d)
	if err != nil {
		return err
	}
	changes, err := s.replayPage(ctx, d.owner, pageID{d.space, d.page}, d.at, end)
	if err != nil {
		return fmt.Errorf("pageserver: log %q space %v page %d at LSN %d could not be rebuilt from the log: %w", d.owner.name(), d.space, d.page, d.at.lsn, err)
	}
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	// It may have been a run, in which other changes were: each gets its image, the first one last.
	version := appendVersionKey(nil, d.owner.id, d.space, d.page, d.at)
	defer s.readers.renew()
	for _, c := range slices.Backward(changes) {
		key := appendVersionKey(nil, d.owner.id, d.space, d.page, c.at)
		if err := s.rewriteAt(version, key, sealImage(key, c.content)); err != nil {
			return err
		}
	}
	s.dirty.Store(true)
	s.metrics.healed.Inc()
	s.log.Info("pageserver: page rebuilt from the log", "log", d.owner.name(), "space", d.space.String(), "page", d.page, "lsn", uint64(d.at.lsn))
	return nil
}

// endOfRun returns the place up to which changes of a page may stand under the key of a
// damaged version: right before its next one, or where the log is ingested.
func (s *Server) endOfRun(d *damagedPage) (pos, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return pos{}, logcore.ErrClosed
	}
	key := appendVersionKey(nil, d.owner.id, d.space, d.page, d.at)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key[:versionPrefixBytes], UpperBound: key})
	if err != nil {
		return pos{}, err
	}
	defer it.Close()
	end := endOf(d.owner.snapshot().ingested)
	if it.Last() {
		end = end.min(decodePos(it.Key()[versionPrefixBytes:]).before())
	}
	if end.less(d.at) {
		end = d.at // it is of what is not ingested as a whole yet
	}
	return end, it.Error()
}

// isSound reports whether the version can be read down to its image by now.
func (s *Server) isSound(d *damagedPage) (bool, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return false, logcore.ErrClosed
	}
	r := s.newReader()
	defer r.close()
	v, err := r.seek(d.owner, d.space, d.page, d.at)
	if err == nil && v.alive && v.at == d.at {
		_, err = r.materialise(v, d.space, d.page, versionID{})
		if err == nil {
			return true, nil
		}
	}
	var same *damagedPage
	if err == nil || errors.As(err, &same) {
		return false, nil
	}
	return false, err
}
