package pageserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// ingester makes versions of the entries of one log. It belongs to the log's follower and
// begins afresh with every stream: all it knows is derived from the store.
//
// Entries are gathered in a set, which a committer writes to the store: they become visible
// together, at a commit boundary, since the position in the set is that after a whole entry,
// and a transaction's effects all carry its COMMIT's LSN. A transaction too large for one
// set is written in several, under the position before it, where nobody reads.
type ingester struct {
	s *Server
	l *logState

	generation uint64 // of the log's state

	format  string
	decoder engine.Decoder // nil until the format is known
	state   []byte         // the decoder's, after pos
	known   bool           // state was read
	// inParts: the payloads at hand are those of a transaction of parts, which parts decodes; nil before the first.
	inParts bool
	parts   engine.Transaction

	committer *committer
	// set is what is being gathered; nil between two batches of the source.
	set *writeSet
	// pos is the position after the last whole entry in set, or before it.
	pos stateValue
	// begun counts the sets begun.
	begun int
	// dirty: effects were added of an entry that isn't whole yet. spilled: some of them
	// were given to the committer.
	dirty, spilled bool
	// settles counts how often all was known to be in the store.
	settles int

	fold   fold
	reader *reader // of the store without the set; nil until it is needed
	sizes  map[engine.Space]sizeValue
	chains chainCache
	// cuts are the newest cuts that this ingester wrote, by space.
	cuts  map[engine.Space]cutMark
	meter meter
	// place is where the effects at hand take place.
	place pos
	// unseen counts the pages written of which nothing was known.
	unseen int
	open   map[logcore.TxID]openTx // transactions with parts; nil = not loaded
}

// sizesMax bounds the lengths of spaces that are remembered per log.
const sizesMax = 1 << 17

type openTx struct {
	epoch logcore.Epoch
	parts uint32
}

// newIngester returns an ingester that goes on where the log's state is, until ctx, the stream's, is
// done. failed is called
// when something that was taken over could not be written to the store.
func newIngester(ctx context.Context, s *Server, l *logState, failed func()) *ingester {
	w := &ingester{s: s, l: l, sizes: map[engine.Space]sizeValue{}, cuts: map[engine.Space]cutMark{}, pos: l.snapshot(), committer: newCommitter(ctx, s, l, failed)}
	w.format, w.decoder, w.generation = w.pos.format, l.decoderOf(), l.generations()[0]
	w.fold.sizeOf = w.sizeOf
	if s.opts.Stripes != nil {
		w.fold.holds = func(space engine.Space, page uint32) bool { return s.holds(l, space, page) }
	}
	return w
}

// close waits until what was given to the store is there, and forgets the rest. It returns
// why something could not be written.
func (w *ingester) close() error {
	w.closeReader()
	w.set = nil
	return w.committer.close()
}

func (w *ingester) closeReader() {
	if w.reader != nil {
		w.reader.close()
		w.reader = nil
	}
}

// Violations of the source's contract; values of a metric label.
const (
	violationGap       = "gap"
	violationDuplicate = "duplicate"
	violationBackwards = "backwards"
)

// violation is an error of the source: the same question may be answered well.
type violation struct {
	kind string
	msg  string
}

func (v *violation) Error() string {
	return "pageserver: the log source broke its contract (" + v.kind + "): " + v.msg
}

// ingestBatch takes over a batch. The entries before an error stay. The log is followed
// from its last entry after an error, with another ingester.
func (s *Server) ingestBatch(w *ingester, batch Batch) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	defer w.closeReader()
	if len(batch.Entries) > 0 {
		s.intake.taken()
	}
	if err := w.begin(); err != nil {
		return err
	}
	if err := w.takeAll(batch.Entries); err != nil {
		return err
	}
	switch {
	case batch.Through != 0 && batch.Through < w.pos.ingested:
		return errors.Join(s.violated(violationBackwards, "batch through LSN %d, %d was covered before", batch.Through, w.pos.ingested), w.give())
	case batch.Through != 0:
		w.pos.ingested = batch.Through
	}
	if w.set.empty() && w.committer.idle() {
		// The store learns of it some time: it is written again after a crash.
		w.set.release()
		w.set = nil
		w.l.update(func() { w.l.state.ingested = w.pos.ingested })
		return nil
	}
	return w.give()
}

// takeAll adds entries to the set. Those before an error are in the store when it returns.
func (w *ingester) takeAll(entries []Entry) error {
	for i := range entries {
		begun, mark := w.begun, w.set.mark()
		if err := w.entry(&entries[i]); err != nil {
			// The set has a part of an entry that failed, and nothing else when it was begun
			// after the entry was.
			if w.set == nil {
				return err // of the store
			}
			if w.begun != begun {
				mark = writeMark{}
			}
			w.set.truncate(mark)
			w.dirty = false
			return errors.Join(err, w.give(), w.committer.settle())
		}
		if err := w.giveFull(); err != nil {
			return err
		}
	}
	return nil
}

// begin sees to it that there is a set to gather in.
func (w *ingester) begin() error {
	if w.set != nil {
		return nil
	}
	set, err := w.committer.take()
	if err != nil {
		return err
	}
	w.set = set
	w.begun++
	return w.makeImages()
}

// give gives the set to the committer.
func (w *ingester) give() error {
	set := w.set
	if w.set = nil; set == nil {
		return nil
	}
	set.pos = w.pos
	if w.meter.known {
		set.bytes, set.counted = w.meter.bytes, true
	}
	w.spilled = w.spilled || w.dirty
	set.partial = w.spilled
	return w.committer.give(set)
}

// giveFull gives the set to the committer when it is full, and begins another one.
func (w *ingester) giveFull() error {
	if w.set.size() < writeSetBytesMax {
		return nil
	}
	if err := w.give(); err != nil {
		return err
	}
	return w.begin()
}

// settle returns when all there is is in the store, with an empty set.
func (w *ingester) settle() error {
	w.closeReader()
	if err := errors.Join(w.give(), w.committer.settle()); err != nil {
		return err
	}
	w.settles++
	return w.begin()
}

// makeImages gives the pages that are due an image in place of the version that made them
// so, which is in the store by now: reads begin there. Nothing is lost when it does not
// happen: the page is due again with its next change.
func (w *ingester) makeImages() error {
	due := w.committer.takeDue()
	if len(due) == 0 {
		return nil
	}
	slices.SortFunc(due, func(d, e duePage) int { return d.id.compare(e.id) })
	// What is collected meanwhile must not come back: see rewrite.
	w.s.rewriteMu.Lock()
	defer w.s.rewriteMu.Unlock()
	r := w.s.newReader()
	defer r.close()
	b := w.s.db.NewBatch()
	defer func() { b.Close() }()
	for i, d := range due {
		if err := w.makeImage(r, b, d); err != nil {
			return err
		}
		if b.Len() >= writeSetBytesMax || i == len(due)-1 {
			if err := w.s.ingest(w.committer.ctx, b); err != nil {
				return err
			}
			w.s.readers.renew()
			b.Close()
			b = w.s.db.NewBatch()
		}
	}
	return nil
}

func (w *ingester) makeImage(r *reader, b *pebble.Batch, d duePage) error {
	c, ok := w.chains.get(d.id)
	if !ok || !c.due {
		return nil // it got an image with a later change, or was forgotten
	}
	c.due = false
	v, err := r.newest(w.l, d.id.space, d.id.page, d.at)
	if err != nil || !v.alive || v.at != d.at || v.last != d.at || v.owner != w.l {
		return err // it is gone
	}
	p, err := r.pageOf(v, d.id.space, d.id.page)
	if isRedoError(err) {
		// Who reads the page is told; the chain goes on.
		c.broken = true
		return nil
	}
	if err != nil {
		return err
	}
	key := appendVersionKey(nil, w.l.id, d.id.space, d.id.page, d.at)
	if err := b.Set(key, sealImage(key, p.data), nil); err != nil {
		return err
	}
	if c.at == d.at {
		w.s.written.put(writtenID{w.generation, d.id}, d.at, p.data)
	}
	// What came after the version goes on from it.
	c.depth, c.bytes = c.depth-d.depth, c.bytes-d.bytes
	w.s.metrics.images.Inc()
	return nil
}

// below returns a reader of the store. It may lack what was given and is not there yet:
// chains and sizes know all of that, and who needs more than they know settles first.
func (w *ingester) below() *reader {
	if w.reader == nil {
		w.reader = w.s.newReader()
	}
	return w.reader
}

func (s *Server) violated(kind, format string, args ...any) error {
	s.metrics.violations.WithLabelValues(kind).Inc()
	return &violation{kind, fmt.Sprintf(format, args...)}
}

// checkOrder makes sure that e is the next entry, and moves v to it.
func (s *Server) checkOrder(v *stateValue, e *Entry) error {
	if e.LSN <= v.ingested {
		kind := violationBackwards
		if e.Epoch == v.epoch && e.Sequence == v.sequence {
			kind = violationDuplicate
		}
		return s.violated(kind, "entry at LSN %d (epoch %d, sequence %d), %d was covered before (epoch %d, sequence %d)", e.LSN, e.Epoch, e.Sequence, v.ingested, v.epoch, v.sequence)
	}
	if e.Epoch != 0 && e.Sequence != 0 {
		want := uint64(1)
		if e.Epoch == v.epoch {
			want = v.sequence + 1
		}
		switch {
		case e.Epoch < v.epoch:
			return s.violated(violationBackwards, "entry at LSN %d of epoch %d after one of epoch %d", e.LSN, e.Epoch, v.epoch)
		case e.Sequence < want:
			return s.violated(violationDuplicate, "entry at LSN %d has sequence %d of epoch %d, want %d", e.LSN, e.Sequence, e.Epoch, want)
		case e.Sequence > want:
			return s.violated(violationGap, "entry at LSN %d has sequence %d of epoch %d, want %d: entries between LSN %d and it are missing", e.LSN, e.Sequence, e.Epoch, want, v.ingested)
		}
	}
	v.ingested, v.entry, v.epoch, v.sequence, v.entryTime, v.entryTx = e.LSN, e.LSN, e.Epoch, e.Sequence, e.Time, e.Tx
	return nil
}

// entry adds the effects of one entry to the batch.
func (w *ingester) entry(e *Entry) error {
	v := w.pos
	if err := w.s.checkOrder(&v, e); err != nil {
		return err
	}
	if err := w.loadOpen(); err != nil {
		return err
	}
	w.l.writing.Store(uint64(e.LSN))
	var err error
	switch e.Kind {
	case logcore.KindData:
		_, err = w.payload(pos{e.LSN, 0}, e.Payload)
	case logcore.KindPart:
		key := appendPartKey(nil, w.l.id, e.Tx, e.LSN)
		tx := w.open[e.Tx]
		w.open[e.Tx] = openTx{max(tx.epoch, e.Epoch), tx.parts + 1}
		w.set.set(key, seal(key, encodePart(e.Epoch, e.Payload)))
	case logcore.KindCommit:
		err = w.commitTx(e)
	case logcore.KindAbort:
		err = w.forgetTx(e.Tx)
	default:
		err = fmt.Errorf("%w: entry at LSN %d of kind %v in a log", logcore.ErrCorrupt, e.LSN, e.Kind)
	}
	if err == nil && e.Epoch != w.pos.epoch {
		err = w.forgetFenced(e.Epoch)
	}
	if err == nil && (e.Kind == logcore.KindData || e.Kind == logcore.KindCommit) {
		// Clocks only go forward in a log; were one not to, the index still must.
		v.visible, v.visibleTime = e.LSN, max(v.visibleTime, e.Time)
		w.set.commits = append(w.set.commits, commit{v.visible, v.visibleTime})
	}
	if err != nil {
		return err
	}
	if err := w.meterEntry(e.LSN, len(e.Payload)); err != nil {
		return err
	}
	v.format = w.format
	w.pos, w.dirty, w.spilled = v, false, false
	w.set.entries++
	return nil
}
