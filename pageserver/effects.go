package pageserver

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// badEntry is an entry that the decoder, or the order of the records, rules out.
// Reading it again does not help: the log's ingest stops before it.
type badEntry struct{ err error }

func (e *badEntry) Error() string { return e.err.Error() }
func (e *badEntry) Unwrap() error { return e.err }

// payload decodes one payload and adds its effects to the batch, from a place on. It
// returns the place after them: the next one, unless groups of spaces are concerned,
// which take places of their own; see groupPlaces.
func (w *ingester) payload(at pos, payload []byte) (pos, error) {
	records, next, err := w.decode(at, payload)
	if err != nil {
		return at, &badEntry{fmt.Errorf("entry at LSN %d, place %d: %w", at.lsn, at.seq, err)}
	}
	w.set.records += len(records)
	w.fold.begin()
	w.place = at
	for i := range records {
		r := &records[i]
		if err := w.check(r); err != nil {
			return at, fmt.Errorf("entry at LSN %d, place %d: %w", at.lsn, at.seq, err)
		}
		if r.Op == engine.OpDropGroup || r.Op == engine.OpCopyGroup {
			if at, err = w.group(at, r); err != nil {
				return at, err
			}
			w.place = at
			continue
		}
		if err := w.fold.add(r); err != nil {
			return at, fmt.Errorf("entry at LSN %d, place %d: %w", at.lsn, at.seq, err)
		}
	}
	w.dirty = true
	if err := w.writeFold(at); err != nil {
		return at, err
	}
	if err := w.setState(next, at); err != nil {
		return at, err
	}
	return pos{at.lsn, at.seq + 1}, nil
}

// check makes sure that a record is possible.
func (w *ingester) check(r *engine.Record) error {
	if err := r.Validate(); err != nil {
		return &badEntry{fmt.Errorf("%w: the decoder made an impossible record: %v", logcore.ErrCorrupt, err)}
	}
	return nil
}

// decode returns the records of a payload and the decoder's state after it: inside a transaction of parts that is the one before, until its end.
func (w *ingester) decode(at pos, payload []byte) ([]engine.Record, []byte, error) {
	if w.decoder == nil {
		format, err := w.s.opts.Formats.Of(payload)
		if err != nil {
			return nil, nil, err
		}
		w.format, w.decoder = format.Name, format.Decoder
		w.l.setDecoder(format.Decoder)
	}
	if err := w.loadState(); err != nil {
		return nil, nil, err
	}
	if w.inParts {
		records, err := w.decodePart(payload)
		return records, w.state, err
	}
	key := decodingKey{w.l.id, w.pos.incarnation, at}
	records, next, err := w.s.opts.Decodings.get(key, payload, func(payload []byte) ([]engine.Record, []byte, error) { return w.decoder.Decode(w.state, payload) })
	if err == nil {
		err = checkDecoderState(next)
	}
	return records, next, err
}

func checkDecoderState(state []byte) error {
	if len(state) > engine.StateBytesMax {
		return fmt.Errorf("%w: the decoder has a state of %d bytes, at most %d", logcore.ErrTooLarge, len(state), engine.StateBytesMax)
	}
	return nil
}

// sizeOf returns a space's length after what is in the batch.
func (w *ingester) sizeOf(space engine.Space) (sizeValue, error) {
	if v, ok := w.sizes[space]; ok {
		return v, nil
	}
	v, _, err := w.below().size(w.l, space, w.place.before())
	if err != nil {
		return v, err
	}
	return v, w.rememberSize(space, v)
}

func (w *ingester) rememberSize(space engine.Space, v sizeValue) error {
	if _, ok := w.sizes[space]; !ok && len(w.sizes) >= sizesMax {
		// What is not in the store yet would be forgotten.
		if err := w.settle(); err != nil {
			return err
		}
		clear(w.sizes)
	}
	w.sizes[space] = v
	return nil
}

// writeFold adds the net effect of records to the batch.
func (w *ingester) writeFold(at pos) error {
	f := &w.fold
	for i := range f.spaces {
		if sf := &f.spaces[i]; sf.cut < uint64(sf.before.pages) {
			if err := w.writeCut(at, sf.space, uint32(sf.cut)); err != nil {
				return err
			}
		}
	}
	w.s.current.close(w.l, f, at.lsn)
	for i := range f.pages {
		if pf := &f.pages[i]; !pf.dead {
			if err := w.writePage(at, &f.spaces[pf.space], pf); err != nil {
				return err
			}
		}
	}
	for i := range f.spaces {
		if sf := &f.spaces[i]; sf.size != sf.before {
			if err := w.writeSize(at, sf.space, sf.size); err != nil {
				return err
			}
		}
	}
	for _, r := range f.objects {
		key := appendObjectKey(nil, w.l.id, r.Key, at)
		value := appendObject(make([]byte, 0, 1+len(r.Data)+checksumBytes), r.Data)
		w.set.set(key, seal(key, value))
	}
	return nil
}

func (w *ingester) writeSize(at pos, space engine.Space, size sizeValue) error {
	if err := w.rememberSize(space, size); err != nil {
		return err
	}
	key := appendSpaceKey(nil, tagSize, w.l.id, space, at)
	w.set.set(key, seal(key, encodeSize(size)))
	return nil
}

// writeCut records that pages from low on lost their content at a place.
func (w *ingester) writeCut(at pos, space engine.Space, low uint32) error {
	// The cut before it may not be in the store yet.
	if w.cutPending(space) {
		if err := w.settle(); err != nil {
			return err
		}
	}
	older, err := w.below().olderCut(w.l, space, at.before(), low)
	if err != nil {
		return err
	}
	key := appendSpaceKey(nil, tagCut, w.l.id, space, at)
	w.set.set(key, seal(key, encodeCut(cutValue{low, older})))
	w.cuts[space] = cutMark{at, w.settles}
	// Ahead of the store for a while: it only makes readers look there.
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.l.newestCut[space] = at
	w.l.cutEpochs[space]++
	return nil
}

// depthMax keeps the depth of a chain in its field.
const depthMax = 1<<16 - 2

// hotPages is how many pages' worth of changes a chain may have before its ingest waits for
// an image: of a page that changes faster than images come in the background.
const hotPages = 4

// writePage stores the new version of a page: an image, or what changes. A page whose
// chain has become long, or larger than an image, is due to get an image in its place.
func (w *ingester) writePage(at pos, sf *spaceFold, pf *pageFold) error {
	if err := w.makeRoomForChain(); err != nil {
		return err
	}
	pageSize, id := sf.size.pageSize, pageID{sf.space, pf.page}
	if pf.image != nil && len(pf.steps) == 0 {
		w.writeImage(at, id, pf.image)
		return nil
	}
	h := versionHeader{kind: kindRedo, depth: 1, chainBytes: uint32(stepsBytes(pf.steps)), pageSize: pageSize}
	switch {
	case pf.image != nil:
		h.flags = flagImage
		w.writeFresh(at, id, h, pf.image, pf.steps)
		return nil
	case pf.init:
		h.flags = flagInit
		w.writeFresh(at, id, h, nil, pf.steps)
		return nil
	}
	c, err := w.chainOf(id, at.before())
	if err != nil {
		return err
	}
	if !c.exists {
		h.flags = flagInit
		w.writeFresh(at, id, h, nil, pf.steps)
		return nil
	}
	if c.blind {
		h.flags = flagBlind
		w.setVersion(at, id, h, nil, pf.steps)
		c.begin(at, h)
		c.wrote(w.set, h.chainBytes)
		return nil
	}
	return w.writeChange(at, id, h, c, pf.steps)
}

// writeChange stores what changes of a page whose newest version is known.
func (w *ingester) writeChange(at pos, id pageID, h versionHeader, c *chain, steps []step) error {
	own, plain := h.chainBytes, h
	h.base, h.depth = c.at, min(c.depth, depthMax)+1
	run := c.joins(w.set, own, h.pageSize)
	if run {
		h.depth--
	} else if len(steps) == 1 && steps[0].ranges != nil {
		h.kind, h.chainBytes = kindDelta, h.chainBytes-stepHeaderBytes
	}
	h.chainBytes += c.bytes
	due := int(h.depth) > w.s.opts.ChainDeltasMax || h.chainBytes > h.pageSize
	page := w.advance(id, c.at, at, steps)
	if page == nil && due && !c.broken && h.chainBytes > hotPages*h.pageSize {
		var err error
		if page, err = w.hotPage(id, c, at, steps); err != nil {
			return err
		}
		if page == nil { // it is broken, and the set is another one
			return w.writeChange(at, id, plain, c, steps)
		}
	}
	if page != nil && due {
		w.s.metrics.images.Inc()
		h = versionHeader{kind: kindImage, pageSize: h.pageSize}
		w.setVersion(at, id, h, page, nil)
		c.begin(at, h)
		return nil
	}
	if run {
		w.joinRun(at, id, h, steps)
	} else {
		w.setVersion(at, id, h, nil, steps)
		c.run = 0
	}
	c.at, c.alive, c.depth, c.bytes = at, at, h.depth, h.chainBytes
	c.wrote(w.set, own)
	if due && !c.due && !c.broken {
		w.set.due = append(w.set.due, duePage{id, at, h.depth, h.chainBytes})
		c.serial = 0 // the image takes the place of the run's last change: this is it
	}
	c.due = due
	return nil
}

// hotPage returns a page after steps over its newest version, which is read from the store;
// nil when the decoder refuses. From then on the page is kept up to date beside it.
func (w *ingester) hotPage(id pageID, c *chain, at pos, steps []step) ([]byte, error) {
	if err := w.settle(); err != nil {
		return nil, err
	}
	v, err := w.below().newest(w.l, id.space, id.page, at.before())
	if err != nil {
		return nil, err
	}
	if !v.alive || v.at != c.at {
		key := appendVersionKey(nil, w.l.id, id.space, id.page, c.at)
		return nil, corruptValue(key, "the newest version of a page is missing")
	}
	p, err := w.below().pageOf(v, id.space, id.page)
	if isRedoError(err) {
		c.broken = true // who reads the page is told
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.s.written.put(writtenID{w.generation, id}, c.at, p.data)
	page := w.advance(id, c.at, at, steps)
	c.broken = page == nil
	return page, nil
}

// writeFresh adds a version that begins at an image, or at zeros. A page's worth of what
// it holds stands for the page itself, as an image would.
func (w *ingester) writeFresh(at pos, id pageID, h versionHeader, image []byte, steps []step) {
	own := h.chainBytes
	if image == nil {
		h.chainBytes -= min(h.chainBytes, h.pageSize)
	}
	w.setVersion(at, id, h, image, steps)
	c := w.chains.of(id)
	c.begin(at, h)
	c.wrote(w.set, own)
}

// writeImage adds a version that is the page itself.
func (w *ingester) writeImage(at pos, id pageID, page []byte) {
	w.s.written.put(writtenID{w.generation, id}, at, page)
	h := versionHeader{kind: kindImage, pageSize: uint32(len(page))}
	w.setVersion(at, id, h, page, nil)
	w.chains.of(id).begin(at, h)
}

// makeRoomForChain keeps what is known of chains within its bounds.
func (w *ingester) makeRoomForChain() error {
	if !w.chains.full() {
		return nil
	}
	// What is not in the store yet would be forgotten.
	if err := w.settle(); err != nil {
		return err
	}
	w.chains.rotate()
	return nil
}

// advance brings what is known of a page's newest content forward, and returns it; nil
// when it is not known.
func (w *ingester) advance(id pageID, base, at pos, steps []step) []byte {
	wid := writtenID{w.generation, id}
	p := w.s.written.get(wid, base)
	if p == nil {
		return nil
	}
	p.at = pos{} // unknown until all of it is applied
	for _, s := range steps {
		if s.ranges != nil {
			engine.Apply(p.data, s.ranges)
		} else if redo(w.decoder, p.data, s.redo) != nil {
			return nil // who reads it is told
		}
	}
	p.at = at
	return p.data
}

// setVersion lays a version out in the set itself: nothing is copied twice.
func (w *ingester) setVersion(at pos, id pageID, h versionHeader, image []byte, steps []step) {
	n := h.bytes() + len(image)
	if h.kind == kindDelta {
		n += rangesBytes(steps[0].ranges)
	} else {
		n += stepsBytes(steps)
	}
	key, value := w.set.version(id.space, id.page, n)
	appendVersionKey(key[:0], w.l.id, id.space, id.page, at)
	value = append(appendVersionHeader(value[:0], h), image...)
	if h.kind == kindDelta {
		appendRanges(value, steps[0].ranges)
	} else {
		appendSteps(value, steps)
	}
}

// joinRun adds a change to the version of a page that was added last.
func (w *ingester) joinRun(at pos, id pageID, h versionHeader, steps []step) {
	appendSteps(w.set.change(id.space, id.page, at, h.chainBytes, stepsBytes(steps))[:0], steps)
}

// cutMark is the newest cut of a space that this ingester wrote, and how often all was
// settled before it.
type cutMark struct {
	at      pos
	settles int
}

// cutPending reports whether the newest cut of a space may not be in the store yet.
func (w *ingester) cutPending(space engine.Space) bool {
	mark, ok := w.cuts[space]
	return ok && mark.settles == w.settles
}

// chainOf returns what the newest version of a page at or before a place costs.
func (w *ingester) chainOf(id pageID, at pos) (*chain, error) {
	c, ok := w.chains.get(id)
	if ok && (len(w.cuts) == 0 || !c.alive.less(w.cuts[id.space].at)) {
		return c, nil
	}
	if !ok {
		blind, err := w.mayBeBlind(id.space)
		if err != nil {
			return nil, err
		}
		if blind {
			return w.chains.put(id, chain{exists: true, blind: true}), nil
		}
	}
	// A cut may have taken it. Both may be on their way to the store.
	if ok || w.cutPending(id.space) {
		if err := w.settle(); err != nil {
			return nil, err
		}
	}
	v, err := w.below().newest(w.l, id.space, id.page, at)
	if err != nil {
		return nil, err
	}
	if !ok {
		c = w.chains.put(id, chain{})
	}
	*c = chain{}
	if v.alive {
		*c = chain{exists: true, at: v.at, alive: at, depth: v.header.depth, bytes: v.header.chainBytes}
		if v.header.goesOn() {
			// Some versions below may have been written blindly, and are not counted.
			c.depth = max(c.depth, uint16(min(w.s.opts.ChainDeltasMax, depthMax)))
		}
	}
	return c, nil
}

// mayBeBlind reports whether a page of which nothing is known is to be written without a
// look at what it was: a look costs more than the rest of its ingest. Each of so many is
// looked at, as many as a chain has at most, so that chains end. A space that was cut is
// left to those who look, so that who reads does not have to.
func (w *ingester) mayBeBlind(space engine.Space) (bool, error) {
	if w.unseen++; w.unseen%(w.s.opts.ChainDeltasMax+1) == 0 {
		return false, nil
	}
	for owner := w.l; owner != nil; owner = owner.parent {
		cut, err := w.below().hasCut(owner, space)
		if cut || err != nil {
			return false, err
		}
	}
	return true, nil
}

// setState takes over the decoder's state after a payload, and writes what changed of it.
func (w *ingester) setState(next []byte, at pos) error {
	same := len(next) == len(w.state) && (len(next) == 0 || &next[0] == &w.state[0])
	if same {
		return nil
	}
	if len(next) <= decoderChunkBytes && len(w.state) <= decoderChunkBytes {
		w.set.setState(at, next)
		w.state = next
		return nil
	}
	w.set.endStates()
	chunks := max(1, (len(next)+decoderChunkBytes-1)/decoderChunkBytes)
	for no := range chunks {
		if no > 0 && string(decoderChunk(w.state, no)) == string(decoderChunk(next, no)) {
			continue
		}
		key := appendDecoderKey(nil, w.l.id, uint32(no), at)
		w.set.set(key, seal(key, appendDecoderState(nil, next, no)))
	}
	w.state = next
	return nil
}

// loadState reads the decoder's state, once.
func (w *ingester) loadState() error {
	if w.known {
		return nil
	}
	state, err := w.below().decoderState(w.l, endOf(w.pos.ingested))
	if err != nil {
		return err
	}
	w.state, w.known = state, true
	return nil
}
