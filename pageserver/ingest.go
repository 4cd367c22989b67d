package pageserver

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// ingester writes the entries of one log to the store. It belongs to the log's
// follower and begins afresh with every stream: all it knows is derived from the store.
//
// Entries are gathered in one batch of the store and become visible together, once the
// batch is applied: at a commit boundary, since the position in the batch is that after
// a whole entry, and a transaction's effects all carry its COMMIT's LSN. A transaction
// too large for one batch is applied in several, under the position before it, where
// nobody reads.
type ingester struct {
	s *Server
	l *logState

	generation uint64 // of the log's state

	format  string
	decoder engine.Decoder // nil until the format is known
	state   []byte         // the decoder's, after pos
	known   bool           // state was read

	batch *pebble.Batch
	// pos is the position after the last whole entry in batch; entries counts them.
	pos     stateValue
	entries int
	records int
	// dirty: the batch has effects of an entry that isn't whole yet. spilled: so has the
	// store.
	dirty, spilled bool

	fold   fold
	reader *reader // of the store without the batch; nil until it is needed
	sizes  map[engine.Space]sizeValue
	chains chainCache
	// cuts are the newest cuts that this ingester wrote, by space.
	cuts  map[engine.Space]cutMark
	meter meter
	// batches counts those applied.
	batches int
	// place is where the effects at hand take place.
	place pos
	// due are pages whose chains have become long.
	due  []pageID
	open map[logcore.TxID]openTx // transactions with parts; nil = not loaded
}

// batchBytesMax is how large a batch grows before it is applied: large enough that what
// is due once a batch is small change, small enough that readers don't wait for it.
const batchBytesMax = 1 << 20

// sizesMax bounds the lengths of spaces that are remembered per log.
const sizesMax = 1 << 17

type openTx struct {
	epoch logcore.Epoch
	parts uint32
}

func newIngester(s *Server, l *logState) *ingester {
	w := &ingester{s: s, l: l, sizes: map[engine.Space]sizeValue{}, cuts: map[engine.Space]cutMark{}, pos: l.snapshot()}
	w.format, w.decoder, w.generation = w.pos.format, l.decoderOf(), l.generations()[0]
	w.fold.sizeOf = w.sizeOf
	if s.opts.Stripes != nil {
		w.fold.holds = func(space engine.Space, page uint32) bool { return s.holds(l, space, page) }
	}
	return w
}

// close forgets what was not applied.
func (w *ingester) close() {
	if w.batch != nil {
		w.batch.Close()
		w.batch = nil
	}
	w.closeReader()
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
	w.pos = w.l.snapshot()
	if err := w.takeAll(batch.Entries); err != nil {
		return err
	}
	switch {
	case batch.Through == 0 || batch.Through == w.pos.ingested:
		return nil
	case batch.Through < w.pos.ingested:
		return s.violated(violationBackwards, "batch through LSN %d, %d was covered before", batch.Through, w.pos.ingested)
	}
	w.l.update(func() { w.l.state.ingested = batch.Through })
	return nil
}

// takeAll ingests entries; those before an error are visible when it returns.
func (w *ingester) takeAll(entries []Entry) error {
	taken, err := w.take(entries)
	if err == nil || !w.dirty {
		return w.joined(err, w.apply())
	}
	// The batch has a part of an entry that failed: the whole ones before it that it has
	// as well are written again without.
	whole := entries[taken-w.entries : taken]
	again := newIngester(w.s, w.l)
	defer again.close()
	w.close()
	if _, rerr := again.take(whole); rerr != nil {
		return w.joined(err, rerr)
	}
	return w.joined(err, again.apply())
}

// joined returns the first error that there is: the second one is of the store, and
// comes again when the log is followed again.
func (w *ingester) joined(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// take adds entries to the batch and applies it whenever it is full. It returns how
// many it took before an error.
func (w *ingester) take(entries []Entry) (int, error) {
	for i := range entries {
		if err := w.entry(&entries[i]); err != nil {
			return i, err
		}
		if err := w.applyFull(); err != nil {
			return i + 1, err
		}
	}
	return len(entries), nil
}

// apply writes the batch, together with the position, and lets readers see the entries.
func (w *ingester) apply() error {
	if w.batch == nil {
		return nil
	}
	b := w.batch
	w.batch = nil
	defer b.Close()
	if b.Empty() {
		return nil
	}
	w.closeReader()
	key := appendLogKey(nil, tagState, w.l.id)
	if err := b.Set(key, seal(key, encodeState(w.pos)), nil); err != nil {
		return err
	}
	// Commit point: the effects and the position after them.
	if err := w.s.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	w.spilled = w.dirty
	w.batches++
	w.s.dirty.Store(true)
	if w.meter.known {
		w.l.bytes.Store(w.meter.bytes)
	}
	w.l.commitState(w.pos)
	w.s.metrics.entries.Add(float64(w.entries))
	w.s.metrics.records.Add(float64(w.records))
	w.entries, w.records = 0, 0
	return w.makeImages()
}

// applyFull applies the batch when it is full.
func (w *ingester) applyFull() error {
	if w.batch == nil || w.batch.Len() < batchBytesMax {
		return nil
	}
	return w.apply()
}

// makeImages gives the pages that are due an image in place of their newest version,
// which is in the store by now: reads, and the next changes, begin there. Nothing is
// lost when it does not happen: the page is due again with its next change.
func (w *ingester) makeImages() error {
	if len(w.due) == 0 {
		return nil
	}
	due := w.due
	w.due = w.due[:0]
	slices.SortFunc(due, pageID.compare)
	r := w.s.newReader()
	defer r.close()
	b := w.s.db.NewBatch()
	defer func() { b.Close() }()
	for i, id := range due {
		if err := w.makeImage(r, b, id); err != nil {
			return err
		}
		if b.Len() >= batchBytesMax || i == len(due)-1 {
			if err := w.s.db.Apply(b, pebble.NoSync); err != nil {
				return err
			}
			b.Close()
			b = w.s.db.NewBatch()
		}
	}
	return nil
}

func (w *ingester) makeImage(r *reader, b *pebble.Batch, id pageID) error {
	c, ok := w.chains.get(id)
	if !ok || !c.due {
		return nil // it got an image with a later change, or was forgotten
	}
	c.due = false
	v, err := r.newest(w.l, id.space, id.page, c.at)
	if err != nil || !v.alive || v.at != c.at || v.owner != w.l {
		return err // it is gone
	}
	p, err := r.pageOf(v, id.space, id.page)
	if isRedoError(err) {
		// Who reads the page is told; the chain goes on.
		c.broken = true
		w.chains.put(id, c)
		return nil
	}
	if err != nil {
		return err
	}
	if err := setVersion(b, w.l.id, c.at, id, versionHeader{kind: kindImage, pageSize: uint32(len(p.data))}, p.data, nil); err != nil {
		return err
	}
	c.depth, c.bytes = 0, 0
	w.s.written.put(writtenID{w.generation, id}, c.at, p.data)
	w.chains.put(id, c)
	w.s.metrics.images.Inc()
	return nil
}

// begin returns the batch to write to.
func (w *ingester) begin() *pebble.Batch {
	if w.batch == nil {
		w.batch = w.s.db.NewBatchWithSize(64 << 10)
	}
	return w.batch
}

// below returns a reader of the store, which has all but what is in the batch.
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
	b := w.begin()
	var err error
	switch e.Kind {
	case logcore.KindData:
		_, err = w.payload(pos{e.LSN, 0}, e.Payload)
	case logcore.KindPart:
		key := appendPartKey(nil, w.l.id, e.Tx, e.LSN)
		tx := w.open[e.Tx]
		w.open[e.Tx] = openTx{max(tx.epoch, e.Epoch), tx.parts + 1}
		err = b.Set(key, seal(key, encodePart(e.Epoch, e.Payload)), nil)
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
		err = w.writeCommit(v.visible, v.visibleTime)
	}
	if err != nil {
		return err
	}
	if err := w.meterEntry(e.LSN, len(e.Payload)); err != nil {
		return err
	}
	v.format = w.format
	w.pos, w.dirty = v, false
	w.entries++
	return nil
}

func (w *ingester) writeCommit(lsn logcore.LSN, t logcore.HLC) error {
	op := w.begin().SetDeferred(logPrefixBytes+8, 8+checksumBytes)
	appendCommitKey(op.Key[:0], w.l.id, lsn)
	appendTime(op.Value[:0], t)
	seal(op.Key, op.Value[:8])
	return op.Finish()
}
