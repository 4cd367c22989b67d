package pageserver

import (
	"encoding/binary"
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

// removeAbove removes what the store has of a log above its ingested LSN: the first
// effects of a transaction that turned out to be impossible. Another decoder, in a later
// build, may make something else of it.
func (s *Server) removeAbove(l *logState) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	ingested := endOf(l.snapshot().ingested)
	b := s.db.NewBatch()
	defer b.Close()
	for _, tag := range []byte{tagVersion, tagSize, tagCut, tagObject, tagDecoder} {
		lower := appendLogKey(nil, tag, l.id)
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
		if err != nil {
			return err
		}
		for it.First(); it.Valid() && err == nil; it.Next() {
			key := it.Key()
			if ingested.less(decodePos(key[len(key)-posBytes:])) {
				err = b.Delete(key, nil)
				continue
			}
			var value []byte
			if value, err = it.ValueAndErr(); err == nil {
				err = cutShort(b, key, value, ingested)
			}
		}
		if err = errors.Join(err, it.Error(), it.Close()); err != nil {
			return err
		}
	}
	// What is known of the newest cuts may be of those removed.
	l.forgetCuts()
	defer s.readers.renew()
	return s.db.Apply(b, pebble.NoSync) // into memory at least, as set does
}

// cutShort takes out of a value that has several places what comes after one.
func cutShort(b *pebble.Batch, key, sealed []byte, bound pos) error {
	switch {
	case key[0] == tagVersion && len(sealed) > 0 && versionKind(sealed[0]) == kindRun:
		h, body, err := decodeVersion(key, sealed)
		if err != nil {
			return nil // who reads it has it healed
		}
		image := h.imageBytes()
		through, at, last := changesThrough(body[image:], decodePos(key[versionPrefixBytes:]), bound)
		if at == last {
			return nil
		}
		return setSealed(b, key, append(appendVersionHeader(nil, h), body[:image+len(through)]...))
	case key[0] == tagDecoder && len(sealed) >= 4 && binary.LittleEndian.Uint32(sealed)&stateRun != 0:
		value, err := unseal(key, sealed, -1)
		if err != nil {
			return err
		}
		first := decodePos(key[len(key)-posBytes:])
		end := 4 + int(binary.LittleEndian.Uint32(value)&^stateRun)
		if end > len(value) {
			return corruptValue(key, "decoder state of %d bytes, %d at hand", end, len(value))
		}
		through, err := statesThrough(key, value[end:], first, bound)
		if err != nil || len(through) == len(value)-end {
			return err
		}
		return setSealed(b, key, value[:end+len(through)])
	}
	return nil
}
