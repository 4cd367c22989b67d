package pageserver

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// ingestState is what the follower of a log remembers between entries. All of it is
// derived from the store, so it may be forgotten at any time.
type ingestState struct {
	sizes   map[engine.Space]sizeValue // current lengths
	chains  map[pageID]chain           // newest versions, bounded by chainsMax
	decoder engine.Decoder             // nil until the format is known
	open    map[logcore.TxID]openTx    // transactions with parts in the store; nil = not loaded
}

type pageID struct {
	space engine.Space
	page  uint32
}

// chain says what a page's newest version costs to read.
type chain struct {
	exists bool
	at     pos
	depth  uint16
	bytes  uint32
}

// chainsMax bounds the chains remembered per log; beyond it they are forgotten and
// looked up again.
const chainsMax = 1 << 15

type openTx struct {
	epoch logcore.Epoch
	parts uint32
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

// ingestBatch takes over a batch. The entries before an error stay.
func (s *Server) ingestBatch(l *logState, batch Batch) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	for _, e := range batch.Entries {
		if err := s.ingestEntry(l, e); err != nil {
			return err
		}
	}
	v := l.snapshot()
	if batch.Through == 0 || batch.Through == v.ingested {
		return nil
	}
	if batch.Through < v.ingested {
		return s.violated(violationBackwards, "batch through LSN %d, %d was covered before", batch.Through, v.ingested)
	}
	l.update(func() { l.state.ingested = batch.Through })
	return nil
}

func (s *Server) violated(kind, format string, args ...any) error {
	s.metrics.violations.WithLabelValues(kind).Inc()
	return &violation{kind, fmt.Sprintf(format, args...)}
}

// checkOrder makes sure that e is the next entry, and moves v to it.
func (s *Server) checkOrder(v *stateValue, e Entry) error {
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

// ingestEntry writes the effects of one entry and the position after it, in one batch
// of the store, then lets readers see it. The parts of a larger transaction are
// written in batches of their own, at the COMMIT's LSN: nobody reads at that LSN
// before the last batch moves the position to it.
func (s *Server) ingestEntry(l *logState, e Entry) error {
	v := l.snapshot()
	if err := s.checkOrder(&v, e); err != nil {
		return err
	}
	if err := s.loadOpen(l); err != nil {
		return err
	}
	l.writing.Store(uint64(e.LSN))
	b := s.db.NewBatch()
	defer b.Close()
	var err error
	switch e.Kind {
	case logcore.KindData:
		err = s.foldEntry(l, b, e.LSN, 0, e.Payload)
	case logcore.KindPart:
		key := appendPartKey(nil, l.id, e.Tx, e.LSN)
		err = b.Set(key, seal(key, encodePart(e.Epoch, e.Payload)), nil)
	case logcore.KindCommit:
		err = s.commitTx(l, b, e)
	case logcore.KindAbort:
		err = s.forgetTx(l, b, e.Tx)
	default:
		err = fmt.Errorf("%w: entry at LSN %d of kind %v in a log", logcore.ErrCorrupt, e.LSN, e.Kind)
	}
	if err == nil {
		err = s.forgetFenced(l, b, e.Epoch)
	}
	if err == nil && (e.Kind == logcore.KindData || e.Kind == logcore.KindCommit) {
		// Clocks only go forward in a log; were one not to, the index still must.
		v.visible, v.visibleTime = e.LSN, max(v.visibleTime, e.Time)
		key := appendCommitKey(nil, l.id, e.LSN)
		err = b.Set(key, seal(key, encodeTime(v.visibleTime)), nil)
	}
	if err != nil {
		return err
	}
	key := appendLogKey(nil, tagState, l.id)
	if err := b.Set(key, seal(key, encodeState(v)), nil); err != nil {
		return err
	}
	// Commit point: the effects and the position after them.
	if err := s.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	if e.Kind == logcore.KindPart {
		tx := l.ingest.open[e.Tx]
		l.ingest.open[e.Tx] = openTx{max(tx.epoch, e.Epoch), tx.parts + 1}
	}
	s.dirty.Store(true)
	s.metrics.entries.Inc()
	l.commitState(v)
	return nil
}

// commitTx writes the effects of an open transaction. All but the last part go to the
// store at once, so that memory holds one part at a time; the last goes to b.
func (s *Server) commitTx(l *logState, b *pebble.Batch, e Entry) error {
	seq, err := s.eachPart(l, e.Tx, func(seq uint32, payload []byte) error {
		chunk := s.db.NewBatch()
		defer chunk.Close()
		if err := s.foldEntry(l, chunk, e.LSN, seq, payload); err != nil {
			return err
		}
		return s.db.Apply(chunk, pebble.NoSync)
	})
	if err != nil {
		return err
	}
	if len(e.Payload) > 0 {
		if err := s.foldEntry(l, b, e.LSN, seq, e.Payload); err != nil {
			return err
		}
	}
	return s.forgetTx(l, b, e.Tx)
}

// eachPart calls visit for every part of an open transaction, in order, and returns
// their number. It fails when the store holds fewer or more than were put there.
func (s *Server) eachPart(l *logState, tx logcore.TxID, visit func(seq uint32, payload []byte) error) (uint32, error) {
	prefix := append(appendLogKey(nil, tagPart, l.id), tx[:]...)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	seq := uint32(0)
	for it.First(); it.Valid(); it.Next() {
		sealed, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		_, payload, err := decodePart(it.Key(), sealed)
		if err != nil {
			return 0, err
		}
		if err := visit(seq, payload); err != nil {
			return 0, err
		}
		seq++
	}
	if err := it.Error(); err != nil {
		return 0, err
	}
	if want := l.ingest.open[tx].parts; seq != want {
		return 0, &logcore.CorruptionError{Place: "page store", Object: "transaction " + tx.String(), Offset: -1,
			Reason: fmt.Sprintf("%d parts, want %d", seq, want)}
	}
	return seq, nil
}

// forgetTx removes the parts of a transaction.
func (s *Server) forgetTx(l *logState, b *pebble.Batch, tx logcore.TxID) error {
	if _, ok := l.ingest.open[tx]; !ok {
		return nil
	}
	// Forgotten in memory even if b is never applied: the follower starts afresh then.
	delete(l.ingest.open, tx)
	prefix := append(appendLogKey(nil, tagPart, l.id), tx[:]...)
	return b.DeleteRange(prefix, prefixEnd(prefix), nil)
}

// forgetFenced removes the parts of writers that were fenced: they are never closed.
func (s *Server) forgetFenced(l *logState, b *pebble.Batch, epoch logcore.Epoch) error {
	for tx, o := range l.ingest.open {
		if o.epoch != 0 && o.epoch < epoch {
			if err := s.forgetTx(l, b, tx); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadOpen finds the open transactions in the store, once.
func (s *Server) loadOpen(l *logState) error {
	if l.ingest.open != nil {
		return nil
	}
	prefix := appendLogKey(nil, tagPart, l.id)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	open := map[logcore.TxID]openTx{}
	for it.First(); it.Valid(); it.Next() {
		sealed, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		epoch, _, err := decodePart(it.Key(), sealed)
		if err != nil {
			return err
		}
		tx := logcore.TxID(it.Key()[len(prefix):])
		open[tx] = openTx{epoch, open[tx].parts + 1}
	}
	if err := it.Error(); err != nil {
		return err
	}
	l.ingest.sizes, l.ingest.chains, l.ingest.open = map[engine.Space]sizeValue{}, map[pageID]chain{}, open
	return nil
}
