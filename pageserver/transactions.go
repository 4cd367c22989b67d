package pageserver

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// commitTx adds the effects of an open transaction, its parts in order and then what
// the COMMIT carries itself.
func (w *ingester) commitTx(e *Entry) error {
	at := pos{e.LSN, 0}
	if _, ok := w.open[e.Tx]; ok {
		w.inParts = true
		defer func() { w.inParts, w.parts = false, nil }()
		// The parts may be on their way, and are read from the store.
		if err := w.settle(); err != nil {
			return err
		}
		var err error
		if at, err = w.eachPart(e.Tx, at); err != nil {
			return err
		}
	}
	if len(e.Payload) > 0 {
		var err error
		if at, err = w.payload(at, e.Payload); err != nil {
			return err
		}
	}
	if err := w.endParts(at); err != nil {
		return err
	}
	return w.forgetTx(e.Tx)
}

// decodePart returns the records of the next payload of a transaction of parts.
func (w *ingester) decodePart(payload []byte) (records []engine.Record, err error) {
	if w.parts == nil {
		if w.parts, err = engine.Begin(w.decoder, w.state); err != nil {
			return nil, err
		}
	}
	return w.parts.Decode(payload)
}

// endParts takes over the decoder's state after a transaction of parts, at the place behind them.
func (w *ingester) endParts(at pos) error {
	if w.parts == nil {
		return nil
	}
	next, err := w.parts.End()
	if err == nil {
		err = checkDecoderState(next)
	}
	if err != nil {
		return &badEntry{fmt.Errorf("entry at LSN %d: %w", at.lsn, err)}
	}
	return w.setState(next, at)
}

// eachPart adds the effects of every part of an open transaction and returns the place
// after them. It fails when the store holds fewer or more than were put there.
func (w *ingester) eachPart(tx logcore.TxID, at pos) (pos, error) {
	prefix := append(appendLogKey(nil, tagPart, w.l.id), tx[:]...)
	it, err := w.s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return at, err
	}
	defer it.Close()
	parts := uint32(0)
	for it.First(); it.Valid(); it.Next() {
		sealed, err := it.ValueAndErr()
		if err != nil {
			return at, err
		}
		_, payload, err := decodePart(it.Key(), sealed)
		if err != nil {
			return at, err
		}
		if at, err = w.payload(at, payload); err != nil {
			return at, err
		}
		if err := w.giveFull(); err != nil {
			return at, err
		}
		parts++
	}
	if err := it.Error(); err != nil {
		return at, err
	}
	if want := w.open[tx].parts; parts != want {
		return at, &logcore.CorruptionError{Place: "page store", Object: "transaction " + tx.String(), Offset: -1,
			Reason: fmt.Sprintf("%d parts, want %d", parts, want)}
	}
	return at, nil
}

// forgetTx removes the parts of a transaction.
func (w *ingester) forgetTx(tx logcore.TxID) error {
	if _, ok := w.open[tx]; !ok {
		return nil
	}
	// Forgotten in memory even if the batch is never applied: the follower starts afresh then.
	delete(w.open, tx)
	prefix := append(appendLogKey(nil, tagPart, w.l.id), tx[:]...)
	w.set.remove(prefix, prefixEnd(prefix))
	return nil
}

// forgetFenced removes the parts of writers that were fenced: they are never closed.
func (w *ingester) forgetFenced(epoch logcore.Epoch) error {
	for tx, o := range w.open {
		if o.epoch != 0 && o.epoch < epoch {
			if err := w.forgetTx(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadOpen finds the open transactions in the store, once.
func (w *ingester) loadOpen() error {
	if w.open != nil {
		return nil
	}
	prefix := appendLogKey(nil, tagPart, w.l.id)
	it, err := w.s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
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
	w.open = open
	return nil
}
