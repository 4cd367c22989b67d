package client

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// AppendTx writes one transaction and returns when it is durable: one part as a DATA
// entry, more as PART entries closed by a COMMIT that carries the last one. A zero tx
// means a fresh random id, position what the engine calls its position (at most
// PositionBytesMax bytes, nil for none). The slices must not change until it returns.
//
// It is repeated under the same sequence numbers as long as the retry budget lasts, so
// it is written once. logcore.ErrTooLarge, ErrInvalid, ErrOverloaded and ErrDiskFull
// mean that nothing was written and the writer goes on. logcore.ErrFenced ends the
// writer. ErrUnknownOutcome, also when ctx ends in mid-append, ends the writer too.
func (w *Writer) AppendTx(ctx context.Context, tx logcore.TxID, parts [][]byte, position []byte) (Appended, error) {
	f := w.Submit(ctx, tx, parts, position)
	a, err := f.Wait(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, ErrUnknownOutcome) {
		select {
		case <-f.Done(): // it failed before it was queued, or the outcome came at the same moment
			return f.appended, f.err
		default:
		}
		err = fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
		w.poison(err)
	}
	return a, err
}

// Submit is AppendTx without the wait for durability. It returns as soon as the
// transaction is queued, and blocks while InflightEntriesMax or InflightBytesMax is
// reached. ctx bounds that blocking only. The slices must not change until the future
// is done. When one fails, so do all submitted after it.
func (w *Writer) Submit(ctx context.Context, tx logcore.TxID, parts [][]byte, position []byte) *Future {
	if err := w.check(parts, position); err != nil {
		if w.endOnFailure {
			w.poison(err)
		}
		return failedFuture(err)
	}
	if tx.IsZero() {
		tx = logcore.NewTxID()
	}
	if err := w.takeTurn(ctx); err != nil {
		return failedFuture(err)
	}
	defer func() { <-w.turn }()
	var f *Future
	for i, part := range parts {
		p := &pending{tx: tx, bytes: len(part) + len(position) + 64,
			entry: wire.Entry{Kind: int32(logcore.KindPart), Payload: part, CRC32C: crc32.Checksum(part, castagnoli)}}
		p.entry.Tx = p.tx[:]
		if i == len(parts)-1 {
			f, p.last, p.entry.Position = &p.future, true, position
			p.entry.Kind = int32(logcore.KindCommit)
			if len(parts) == 1 {
				p.entry.Kind = int32(logcore.KindData)
			}
		}
		if err := w.enqueue(ctx, p); err != nil {
			if i > 0 && w.Err() == nil {
				// Parts without their commit went out; only a new epoch tells readers to drop them.
				err = fmt.Errorf("%w: gave up in the middle of a transaction of %d parts: %w", ErrUnknownOutcome, len(parts), err)
				w.poison(err)
			}
			return failedFuture(err)
		}
	}
	return f
}

// takeTurn waits until nobody else queues a transaction.
func (w *Writer) takeTurn(ctx context.Context) error {
	select { // nearly always; a select of one case costs much less than one of two
	case w.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Writer) check(parts [][]byte, position []byte) error {
	if len(parts) == 0 {
		return fmt.Errorf("%w: a transaction of no parts", logcore.ErrInvalid)
	}
	if len(position) > PositionBytesMax {
		return fmt.Errorf("%w: engine position of %d bytes, at most %d", logcore.ErrInvalid, len(position), PositionBytesMax)
	}
	for _, p := range parts {
		if len(p) > w.entryMax {
			return fmt.Errorf("%w: %d bytes, log %q takes at most %d: split the transaction into parts or raise the service's limit", logcore.ErrTooLarge, len(p), w.log, w.entryMax)
		}
	}
	return nil
}

// enqueue waits for room and gives the entry its sequence number.
func (w *Writer) enqueue(ctx context.Context, p *pending) error {
	for {
		w.mu.Lock()
		if err := w.stateLocked(); err != nil {
			w.mu.Unlock()
			return err
		}
		n, b := len(w.queue), w.bytes
		if n == 0 || n < w.c.opts.InflightEntriesMax && b+p.bytes <= w.c.opts.InflightBytesMax {
			w.sequence++
			p.entry.Sequence = w.sequence
			w.queue = append(w.queue, p)
			w.bytes += p.bytes
			w.at.appender.fresh.Add(1)
			w.scheduleAndUnlock()
			return nil
		}
		room := w.room
		w.waiters++
		w.mu.Unlock()
		select {
		case <-room:
			w.waited()
		case <-ctx.Done():
			w.waited()
			return ctx.Err()
		}
	}
}
