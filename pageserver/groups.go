package pageserver

import (
	"github.com/logcore/logcore/engine"
)

// groupPlaces is how many places a record takes that concerns a group of spaces: what
// comes before it in its payload has the first, spaces that go have the second, spaces
// that are copied the third; what comes after it begins at the one after that.
const groupPlaces = 3

// group adds what drops or copies a group of spaces, after what the payload did before,
// and returns the place at which the payload goes on. All of it is read from the store,
// so what is on its way is waited for.
func (w *ingester) group(at pos, r *engine.Record) (pos, error) {
	w.dirty = true
	if err := w.writeFold(at); err != nil {
		return at, err
	}
	w.fold.begin()
	if err := w.settle(); err != nil {
		return at, err
	}
	dropped, copied := pos{at.lsn, at.seq + 1}, pos{at.lsn, at.seq + 2}
	copies := r.Op == engine.OpCopyGroup
	if copies && r.From == r.Space.Hi {
		return pos{at.lsn, at.seq + groupPlaces}, nil // a group is its own copy
	}
	if err := w.dropGroup(dropped, r.Space.Hi); err != nil {
		return at, err
	}
	if copies {
		if err := w.copyGroup(copied, r.From, r.Space.Hi); err != nil {
			return at, err
		}
	}
	return pos{at.lsn, at.seq + groupPlaces}, w.settle()
}

// eachOfGroup visits the spaces of a group that exist at a place.
func (w *ingester) eachOfGroup(hi uint64, at pos, visit func(*reader, engine.Space, sizeValue) error) error {
	r := w.s.newReader()
	defer r.close()
	spaces, err := r.spaces(w.l, hi, hi, at)
	if err != nil {
		return err
	}
	defer spaces.close()
	for spaces.next() {
		if err := visit(r, spaces.space, spaces.size); err != nil {
			return err
		}
		if err := w.giveFull(); err != nil {
			return err
		}
	}
	return spaces.err
}

func (w *ingester) dropGroup(at pos, hi uint64) error {
	return w.eachOfGroup(hi, at.before(), func(_ *reader, space engine.Space, size sizeValue) error {
		if size.pages > 0 {
			if err := w.writeCut(at, space, 0); err != nil {
				return err
			}
		}
		return w.writeSize(at, space, sizeValue{})
	})
}

// copyGroup copies the pages themselves, so that a copy depends on nothing: neither
// collection nor a read has to know where a space came from.
func (w *ingester) copyGroup(at pos, from, hi uint64) error {
	before := at.before()
	return w.eachOfGroup(from, before, func(r *reader, space engine.Space, size sizeValue) error {
		target := engine.Space{Hi: hi, Lo: space.Lo}
		for n := range size.pages {
			if !w.s.holds(w.l, target, n) {
				continue // nor is what it would be copied from
			}
			v, err := r.newest(w.l, space, n, before)
			if err != nil {
				return err
			}
			if !v.alive {
				continue // zeros, there as here
			}
			if err := w.copyPage(r, v, at, pageID{space, n}, pageID{target, n}); err != nil {
				return err
			}
			if err := w.giveFull(); err != nil {
				return err
			}
		}
		return w.writeSize(at, target, size)
	})
}

// copyPage copies a version under the reader. One that the decoder cannot bring forward
// can't be copied either: the log's ingest stops.
func (w *ingester) copyPage(r *reader, v version, at pos, from, to pageID) error {
	p, err := r.pageOf(v, from.space, from.page)
	if isRedoError(err) {
		return &badEntry{err}
	}
	if err != nil {
		return err
	}
	if err := w.makeRoomForChain(); err != nil {
		return err
	}
	w.s.current.closeOne(w.l.currentID(to.space, to.page), at.lsn)
	w.writeImage(at, to, p.data)
	return nil
}
