package pageserver

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// reader reads the store as of one moment; it is used by one goroutine, under
// Server.storeMu, and closed. What a log holds up to its ingested LSN never changes,
// so it does not matter which moment.
type reader struct {
	s      *Server
	opened uint64           // Server.readers.writes before anything was opened
	it     *pebble.Iterator // on versions; opened on first use
	key    []byte           // scratch
	beside []byte           // scratch
	aside  *pebble.Iterator // on what is looked up while it stays on a version; opened on first use
	// bodies and ends are scratch for the chain of a page: its bodies, newest first.
	bodies      []byte
	ends        []chainPart
	incarnation uint64 // of the log read
	// exact: what is read at is ingested, in the log and in its ancestors. It need not
	// be when the caller said what was not modified since: that is the caller's word,
	// and only the caller gets what follows from it.
	exact bool
}

// close ends the use of the reader; nothing that it returned points into the store.
func (r *reader) close() {
	failed := r.it != nil && r.it.Error() != nil || r.aside != nil && r.aside.Error() != nil
	if failed || !r.s.readers.put(r) {
		r.drop()
	}
}

func (r *reader) drop() {
	if r.it != nil {
		r.it.Close()
	}
	if r.aside != nil {
		r.aside.Close()
	}
}

// besideIterator returns an iterator that moves without moving the one on versions.
func (r *reader) besideIterator() (*pebble.Iterator, error) {
	if r.aside == nil {
		it, err := r.s.db.NewIter(nil)
		if err != nil {
			return nil, err
		}
		r.aside = it
	}
	return r.aside, nil
}

func (r *reader) iterator() (*pebble.Iterator, error) {
	if r.it == nil {
		it, err := r.s.db.NewIter(nil)
		if err != nil {
			return nil, err
		}
		r.it = it
	}
	return r.it, nil
}

// version is what there is of a page at a pos.
type version struct {
	// alive: there is a version and no cut after it.
	alive  bool
	owner  *logState // the log or the ancestor that holds it
	at     pos       // of its last change at or before that pos, or of the cut that took it; zero when there was none
	first  pos       // of the version: that of its first change
	last   pos       // of its last change: not at when the version is a run that goes on
	header versionHeader
	body   []byte // up to at; the iterator's, until it moves
}

// newest finds the newest version of a page at or before a pos: in the log itself,
// or in its ancestors up to where they branch off.
func (r *reader) newest(l *logState, space engine.Space, page uint32, at pos) (version, error) {
	for owner, bound := l, at; owner != nil; owner, bound = owner.parent, bound.min(owner.branch) {
		v, err := r.seek(owner, space, page, bound)
		if err != nil {
			return version{}, err
		}
		cut, found, err := r.cutOf(owner, space, page, bound, v)
		if err != nil {
			return version{}, err
		}
		if found && (!v.alive || v.at.less(cut)) {
			return version{at: cut}, nil
		}
		if v.alive {
			return v, nil
		}
	}
	return version{}, nil
}

// seek finds the newest version in one log, cuts left aside.
func (r *reader) seek(owner *logState, space engine.Space, page uint32, bound pos) (version, error) {
	it, err := r.iterator()
	if err != nil {
		return version{}, err
	}
	r.key = appendVersionKey(r.key[:0], owner.id, space, page, bound)
	if !it.SeekPrefixGE(r.key) {
		return version{}, it.Error()
	}
	return r.current(owner, space, page, bound)
}

// current decodes the version under the iterator, as far as a pos goes.
func (r *reader) current(owner *logState, space engine.Space, page uint32, bound pos) (version, error) {
	key := r.it.Key()
	if len(key) != versionPrefixBytes+posBytes || !bytes.HasPrefix(key, r.key[:versionPrefixBytes]) {
		return version{}, corruptValue(key, "not a version of the page asked for")
	}
	v := version{alive: true, owner: owner, at: decodePos(key[versionPrefixBytes:])}
	sealed, err := r.it.ValueAndErr()
	if err != nil {
		return version{}, err
	}
	if v.header, v.body, err = decodeVersion(key, sealed); err != nil {
		if errors.Is(err, logcore.ErrCorrupt) {
			return version{}, &damagedPage{err: err, owner: owner, space: space, page: page, at: v.at}
		}
		return version{}, err
	}
	v.first, v.last = v.at, v.at
	if v.header.kind == kindRun {
		image := v.header.imageBytes()
		var changes []byte
		changes, v.at, v.last = changesThrough(v.body[image:], v.first, bound)
		v.body = v.body[:image+len(changes)]
	}
	return v, nil
}

// damagedPage is a version that fails its checksum in a store that is otherwise
// sound. The page can be rebuilt from the log.
type damagedPage struct {
	err   error
	owner *logState
	space engine.Space
	page  uint32
	at    pos // of the version, so of its first change
}

func (e *damagedPage) Error() string {
	return fmt.Sprintf("pageserver: log %q space %v page %d: %v", e.owner.name(), e.space, e.page, e.err)
}

func (e *damagedPage) Unwrap() error { return e.err }

// cutOf returns the newest cut of one log at or before bound that took the page's
// content; newer than v when that is alive, since an older one does not matter.
func (r *reader) cutOf(owner *logState, space engine.Space, page uint32, bound pos, v version) (pos, bool, error) {
	owner.mu.Lock()
	newest, known := owner.newestCut[space]
	owner.mu.Unlock()
	if known && (newest == pos{} || v.alive && newest.less(v.at)) {
		return pos{}, false, nil
	}
	if !known {
		if err := r.learnNewestCut(owner, space); err != nil {
			return pos{}, false, err
		}
	}
	return r.findCut(owner, space, bound, page, v)
}

// hasCut reports whether a space was ever cut in one log, as far as is known.
func (r *reader) hasCut(owner *logState, space engine.Space) (bool, error) {
	owner.mu.Lock()
	newest, known := owner.newestCut[space]
	owner.mu.Unlock()
	if !known {
		if err := r.learnNewestCut(owner, space); err != nil {
			return false, err
		}
		owner.mu.Lock()
		defer owner.mu.Unlock()
		newest = owner.newestCut[space]
	}
	return newest != pos{}, nil
}

// learnNewestCut fills newestCut for a space from the store.
func (r *reader) learnNewestCut(owner *logState, space engine.Space) error {
	at, _, found, err := r.cutAt(owner, space, endOf(1<<64-1))
	if err != nil {
		return err
	}
	if !found {
		at = pos{}
	}
	owner.mu.Lock()
	defer owner.mu.Unlock()
	if owner.newestCut[space].less(at) || owner.newestCut[space] == (pos{}) {
		owner.newestCut[space] = at
	}
	return nil
}

// findCut walks the cuts back from bound to the first with low <= page. Each points
// to the newest one before it that cuts lower, so the walk passes over those that
// could not matter; it ends at v.
func (r *reader) findCut(owner *logState, space engine.Space, bound pos, page uint32, v version) (pos, bool, error) {
	at, cut, found, err := r.cutAt(owner, space, bound)
	for {
		if err != nil || !found || v.alive && at.less(v.at) {
			return pos{}, false, err
		}
		if cut.low <= page {
			return at, true, nil
		}
		if cut.older == (pos{}) {
			return pos{}, false, nil
		}
		at, cut, found, err = r.cutAt(owner, space, cut.older)
	}
}

// olderCut returns the newest cut at or before a pos with a low below the given one.
func (r *reader) olderCut(owner *logState, space engine.Space, at pos, low uint32) (pos, error) {
	if low == 0 {
		return pos{}, nil
	}
	at, found, err := r.findCut(owner, space, at, low-1, version{})
	if err != nil || !found {
		return pos{}, err
	}
	return at, nil
}

// cutAt returns the newest cut of a space in one log at or before bound.
func (r *reader) cutAt(owner *logState, space engine.Space, bound pos) (pos, cutValue, bool, error) {
	at, key, sealed, found, err := r.newestOfSpace(tagCut, owner, space, bound)
	if err != nil || !found {
		return pos{}, cutValue{}, false, err
	}
	cut, err := decodeCut(key, sealed)
	return at, cut, err == nil, err
}

// newestOfSpace returns the newest size or cut of a space in one log at or before
// bound. It uses an iterator of its own, so that one on a version stays where it is.
func (r *reader) newestOfSpace(tag byte, owner *logState, space engine.Space, bound pos) (at pos, key, sealed []byte, found bool, err error) {
	it, err := r.besideIterator()
	if err != nil {
		return pos{}, nil, nil, false, err
	}
	r.beside = appendSpaceKey(r.beside[:0], tag, owner.id, space, bound)
	if !it.SeekPrefixGE(r.beside) {
		return pos{}, nil, nil, false, it.Error()
	}
	sealed, err = it.ValueAndErr()
	if err != nil {
		return pos{}, nil, nil, false, err
	}
	key = it.Key()
	if len(key) != spacePrefixBytes+posBytes {
		return pos{}, nil, nil, false, corruptValue(key, "key of %d bytes, want %d", len(key), spacePrefixBytes+posBytes)
	}
	return decodePos(key[spacePrefixBytes:]), key, sealed, true, nil
}

// size returns the length of a space at or before a pos, and the pos it dates from.
func (r *reader) size(l *logState, space engine.Space, at pos) (sizeValue, pos, error) {
	for owner, bound := l, at; owner != nil; owner, bound = owner.parent, bound.min(owner.branch) {
		at, key, sealed, found, err := r.newestOfSpace(tagSize, owner, space, bound)
		if err != nil {
			return sizeValue{}, pos{}, err
		}
		if found {
			v, err := decodeSize(key, sealed)
			return v, at, err
		}
	}
	return sizeValue{}, pos{}, nil
}

// pageAt is a page as of a pos.
type pageAt struct {
	image
	last logcore.LSN // of its last change; 0 when it does not exist
}

// page materialises a page: the newest version at or before a pos and, when that is
// a delta, the versions it builds on.
func (r *reader) page(l *logState, space engine.Space, page uint32, at pos) (pageAt, error) {
	v, err := r.newest(l, space, page, at)
	if err != nil {
		return pageAt{}, err
	}
	if !v.alive {
		return r.unwritten(l, space, page, at, v.at)
	}
	return r.pageOf(v, space, page)
}

// pageOf materialises a version under the iterator.
func (r *reader) pageOf(v version, space engine.Space, page uint32) (pageAt, error) {
	return r.pageAfter(v, space, page, versionID{})
}

// pageAfter is pageOf for who knows which version of the page was read last: its image is
// probably cached.
func (r *reader) pageAfter(v version, space engine.Space, page uint32, last versionID) (pageAt, error) {
	id := versionID{v.owner.id, v.owner.generation, space, page, v.at}
	if im, ok := r.s.cache.get(id); ok {
		r.s.metrics.cacheHits.Inc()
		r.ends = r.ends[:0]
		return pageAt{im, v.at.lsn}, nil
	}
	data, err := r.materialise(v, space, page, last)
	if err != nil {
		return pageAt{}, err
	}
	im := image{data, xxh3.Hash(data)}
	r.s.cache.put(id, im)
	return pageAt{im, v.at.lsn}, nil
}

// pageAtLSN is page for a reader of the log at an LSN that is ingested, who remembers what
// it found.
func (r *reader) pageAtLSN(l *logState, space engine.Space, page uint32, lsn logcore.LSN) (pageAt, error) {
	id := l.currentID(space, page)
	last, _ := r.s.current.find(id, lsn)
	v, err := r.newest(l, space, page, endOf(lsn))
	if err != nil {
		return pageAt{}, err
	}
	if !v.alive {
		return r.unwritten(l, space, page, endOf(lsn), v.at)
	}
	p, err := r.pageAfter(v, space, page, last)
	if err != nil {
		return pageAt{}, err
	}
	r.s.imager.note(v, pageID{space, page}, len(r.ends))
	r.s.recacher.note(heatID{v.owner.id, space, page})
	if r.exact {
		r.s.current.learn(l, id, versionID{v.owner.id, v.owner.generation, space, page, v.at}, lsn)
	}
	return p, nil
}

// cachedPage returns a page without a look into the store, when the version to read is
// known and its image cached.
func (s *Server) cachedPage(id currentID, lsn logcore.LSN) (pageAt, bool) {
	version, ok := s.current.find(id, lsn)
	if !ok {
		return pageAt{}, false
	}
	im, ok := s.cache.get(version)
	if !ok {
		return pageAt{}, false
	}
	s.metrics.cacheHits.Inc()
	return pageAt{im, version.at.lsn}, true
}

// unwritten is a page without a version: zeros within the space's length, nothing
// beyond. It dates from the cut that took its content or the space's last change of
// length, which is at or after the page's own.
func (r *reader) unwritten(l *logState, space engine.Space, page uint32, at, cut pos) (pageAt, error) {
	size, since, err := r.size(l, space, at)
	if err != nil || page >= size.pages {
		return pageAt{}, err
	}
	data := make([]byte, size.pageSize)
	return pageAt{image{data, xxh3.Hash(data)}, max(since.lsn, cut.lsn)}, nil
}

// chainPart is a version of a chain whose body is in reader.bodies up to end.
type chainPart struct {
	end  int
	kind versionKind
	// owner is the log that holds the version: its decoder applies it.
	owner *logState
}

// materialise builds the page of a version under the iterator. It looks for the image of
// the version that was read last in the cache, and of no other: a look costs half as much as
// a delta.
//
// Invariant: below a version with a base there is always a version of the same page, in
// the same log or in an ancestor, at the place that it names, and no cut between the two.
// Below one that was written blindly there is what there is, or a page of zeros.
func (r *reader) materialise(v version, space engine.Space, page uint32, last versionID) ([]byte, error) {
	top := v
	r.bodies, r.ends = r.bodies[:0], r.ends[:0]
	for v.header.goesOn() {
		r.keep(v)
		below, err := r.below(v, space, page)
		if err != nil {
			return nil, err
		}
		if v.header.isBlind() && !below.alive {
			data := make([]byte, top.header.pageSize)
			return data, r.applyChain(data, space, page)
		}
		if !below.alive || v.header.hasBase() && below.at != v.header.base || below.header.pageSize != v.header.pageSize {
			key := appendVersionKey(nil, v.owner.id, space, page, v.first)
			return nil, &damagedPage{err: corruptValue(key, "the version that this one changes is missing"), owner: v.owner, space: space, page: page, at: v.first}
		}
		v = below
		if v.at != last.at || last.log != v.owner.id || last.generation != v.owner.generation {
			continue
		}
		if im, ok := r.s.cache.get(last); ok {
			r.s.metrics.cacheHits.Inc()
			v.header.kind, v.header.flags, v.body = kindImage, 0, im.data
		}
	}
	if v.header.kind == kindImage {
		data := bytes.Clone(v.body)
		return data, r.applyChain(data, space, page)
	}
	data := make([]byte, top.header.pageSize)
	n := copy(data, v.body[:v.header.imageBytes()]) // the rest is zeros
	v.body = v.body[n:]
	r.keep(v)
	return data, r.applyChain(data, space, page)
}

// keep puts the body of a version aside, since the iterator moves on.
func (r *reader) keep(v version) {
	r.bodies = append(r.bodies, v.body...)
	r.ends = append(r.ends, chainPart{len(r.bodies), v.header.kind, v.owner})
}

// applyChain applies the bodies put aside, the oldest first.
func (r *reader) applyChain(data []byte, space engine.Space, page uint32) error {
	for i := len(r.ends) - 1; i >= 0; i-- {
		from, part := 0, r.ends[i]
		if i > 0 {
			from = r.ends[i-1].end
		}
		body := r.bodies[from:part.end:part.end]
		if part.kind == kindDelta {
			applyRanges(data, body)
			continue
		}
		apply := applySteps
		if part.kind == kindRun {
			apply = applyChanges
		}
		if err := apply(part.owner.decoderOf(), data, body); err != nil {
			return fmt.Errorf("pageserver: log %q space %v page %d: %w", part.owner.name(), space, page, err)
		}
	}
	r.s.metrics.deltas.Add(float64(len(r.ends)))
	return nil
}

// below returns the version that one builds on, which the iterator is at. It is not alive
// when there is none.
func (r *reader) below(v version, space engine.Space, page uint32) (version, error) {
	bound := v.first.before()
	if r.it.Next() {
		b, err := r.current(v.owner, space, page, bound)
		if err != nil || !v.header.isBlind() {
			return b, err
		}
		cut, found, err := r.cutOf(v.owner, space, page, bound, b)
		if err != nil || found && b.at.less(cut) {
			return version{}, err
		}
		return b, nil
	}
	if err := r.it.Error(); err != nil {
		return version{}, err
	}
	if v.header.isBlind() {
		return r.newest(v.owner, space, page, bound)
	}
	for owner, bound := v.owner.parent, bound.min(v.owner.branch); owner != nil; owner, bound = owner.parent, bound.min(owner.branch) {
		b, err := r.seek(owner, space, page, bound)
		if err != nil || b.alive {
			return b, err
		}
	}
	return version{}, nil
}
