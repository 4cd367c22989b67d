package pageserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/stripemap"
)

// A Server may hold the pages of some stripes only. What it leaves out is the versions of
// the other pages; lengths, cuts, objects, commits and the decoder's state are those of the
// whole log, since what a record means may depend on all before it.
//
// What is held may become less, at any time, never more: pages that were left out can't
// be made good for.

// holds reports whether a page of the log is held.
func (s *Server) holds(l *logState, space engine.Space, page uint32) bool {
	return s.opts.Stripes == nil || s.opts.Stripes().Has(stripemap.Of(uint64(l.root()), space.Lo, page))
}

// root is the log at the root of the branch tree.
func (l *logState) root() logcore.LogID {
	for l.parent != nil {
		l = l.parent
	}
	return l.id
}

// checkHeld refuses to read pages that are not held.
func (s *Server) checkHeld(l *logState, space engine.Space, numbers ...uint32) error {
	if s.opts.Stripes == nil {
		return nil
	}
	for _, n := range numbers {
		if !s.holds(l, space, n) {
			return fmt.Errorf("pageserver: log %q space %v page %d: %w", l.name(), space, n, logcore.ErrWrongPageServer)
		}
	}
	return nil
}

// Root returns the log at the root of a log's branch tree. Errors are those of GetPages.
func (s *Server) Root(ctx context.Context, log string) (logcore.LogID, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	l, err := s.lookup(ctx, log)
	if err != nil {
		return 0, err
	}
	return l.root(), nil
}

// Position is where a log is.
type Position struct {
	Log         logcore.LogID
	Incarnation uint64
	// Last is the log's last entry at the source.
	Last logcore.LSN
}

// Positions returns where a source's logs are.
func Positions(ctx context.Context, source LogSource) ([]Position, error) {
	infos, err := source.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Position, 0, len(infos))
	for _, info := range infos {
		if info.ID == 0 {
			return nil, fmt.Errorf("pageserver: %w: the log service does not know yet where log %q is: ask again", logcore.ErrOverloaded, info.Name)
		}
		out = append(out, Position{info.ID, info.Incarnation, max(info.Last, info.BranchLSN)})
	}
	return out, nil
}

// Reached reports whether every one of some positions is ingested, by the word of the
// source as it is now. A log whose ingest has stopped for good counts as far as it came.
func (s *Server) Reached(positions []Position) bool {
	states := map[logcore.LogID]*logState{}
	for _, l := range s.registry.all() {
		states[l.id] = l
	}
	for _, p := range positions {
		l := states[p.Log]
		if l == nil {
			return false
		}
		// A branch at rest has no stream that would confirm it; its root's does, and whoever reads
		// it asks the source first.
		rootStands := l.parent != nil && l.family().sessionNow() != 0
		l.mu.Lock()
		confirmed := l.confirmed || l.resting.rests && rootStands
		ok := confirmed && l.state.incarnation == p.Incarnation && l.state.ingested >= p.Last || l.stopped != nil
		l.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// Forget removes the pages that are not held any more from the store. It does nothing
// when all are held.
func (s *Server) Forget(ctx context.Context) error {
	if s.opts.Stripes == nil {
		return nil
	}
	for _, l := range s.registry.all() {
		if err := s.forgetPages(ctx, l); err != nil {
			return fmt.Errorf("pageserver: log %q: pages of other stripes: %w", l.name(), err)
		}
	}
	return nil
}

// forgetBatch is how many groups of pages are removed at once.
const forgetBatch = 1024

// forgetPages removes groups of pages of one log, looking at one key of each.
func (s *Server) forgetPages(ctx context.Context, l *logState) error {
	next := appendLogKey(nil, tagVersion, l.id)
	end := prefixEnd(next)
	for next != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if next, err = s.forgetSome(l, next, end); err != nil {
			return err
		}
	}
	return nil
}

// forgetSome removes what is not held of the groups from a key on, a bounded number of
// them, and returns where to go on, nil at the end.
func (s *Server) forgetSome(l *logState, from, end []byte) ([]byte, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return nil, logcore.ErrClosed
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: end})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	b := s.db.NewBatch()
	defer b.Close()
	groups := 0
	for ok := it.First(); ok; groups++ {
		key := it.Key()
		if len(key) != versionPrefixBytes+posBytes {
			return nil, corruptValue(bytes.Clone(key), "not a version")
		}
		spaceKey := bytes.Clone(key[:versionPrefixBytes-4])
		page := binary.BigEndian.Uint32(key[versionPrefixBytes-4:])
		first := page / stripemap.GroupPages * stripemap.GroupPages
		after := prefixEnd(spaceKey) // of the last group of a space
		if last := first + stripemap.GroupPages; last != 0 {
			after = binary.BigEndian.AppendUint32(spaceKey[:len(spaceKey):len(spaceKey)], last)
		}
		if !s.holds(l, decodeSpace(spaceKey[logPrefixBytes:]), page) {
			if err := b.DeleteRange(binary.BigEndian.AppendUint32(spaceKey[:len(spaceKey):len(spaceKey)], first), after, nil); err != nil {
				return nil, err
			}
		}
		if groups == forgetBatch {
			defer s.readers.renew()
			return after, s.apply(b)
		}
		ok = it.SeekGE(after)
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	s.dirty.Store(true)
	defer s.readers.renew()
	return nil, s.apply(b)
}
