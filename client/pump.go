package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// messageBytesMax bounds a message of several entries; a larger entry goes alone.
const messageBytesMax = 1 << 20

type appendStream = grpc.BidiStreamingClient[logcorev1.AppendStreamRequest, logcorev1.AppendStreamResponse]

// pump owns the append stream: it opens one when there is work, opens another when it
// breaks, and gives up when the retry budget since the last progress is spent.
func (w *Writer) pump(ctx context.Context) {
	retry := newBudget(w.c.opts.RetryFor)
	for {
		if !w.waitForWork(ctx) {
			return
		}
		acked, err := w.stream(ctx)
		if ctx.Err() != nil || w.Err() != nil {
			return
		}
		if acked {
			retry.reset()
		}
		if err == nil {
			continue
		}
		w.learn(err)
		if (errors.Is(err, ErrUnavailable) || refused(err)) && retry.wait(ctx) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		w.settle(err)
		retry.reset()
	}
}

// waitForWork returns false when the writer is done for.
func (w *Writer) waitForWork(ctx context.Context) bool {
	for {
		w.mu.Lock()
		n, err := len(w.queue), w.err
		w.mu.Unlock()
		if err != nil {
			return false
		}
		if n > 0 {
			return true
		}
		select {
		case <-w.work:
		case <-ctx.Done():
			return false
		}
	}
}

// stream runs one append stream until it breaks, the writer ends, or the service stops
// acknowledging. It reports whether anything was acknowledged.
func (w *Writer) stream(ctx context.Context) (acked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := w.c.logs.AppendStream(ctx)
	if err != nil {
		return false, remote(err, w.c.opts.Addr)
	}
	w.mu.Lock()
	w.sent, w.progress = 0, time.Now()
	w.mu.Unlock()
	received := make(chan error, 1)
	go func() { received <- w.receive(st, &acked) }() // ends with the stream; awaited below
	err = w.send(st, received, cancel)
	return acked, err
}

// send sends what is queued as it comes. It returns once the receiver has ended, and
// ends it itself, by cancelling the stream, when the writer ends or the service is silent.
func (w *Writer) send(st appendStream, received <-chan error, cancel context.CancelFunc) error {
	patience := w.c.opts.Timeout
	tick := time.NewTicker(max(patience/8, time.Millisecond))
	defer tick.Stop()
	first := true
	for {
		for batch := w.take(); len(batch) > 0; batch = w.take() {
			req := &logcorev1.AppendStreamRequest{Entries: batch}
			if first {
				req.Log, req.Epoch, req.Incarnation, first = w.log, uint64(w.epoch), w.incarnation, false
			}
			if err := st.Send(req); err != nil {
				return <-received // Send says only that the stream ended; Recv says why
			}
		}
		select {
		case err := <-received:
			return err
		case <-w.work:
			if w.Err() != nil {
				cancel()
				return <-received
			}
		case <-tick.C:
			if w.stalled(patience) {
				cancel()
				<-received
				return fmt.Errorf("%w at %s: no acknowledgement for %v", ErrUnavailable, w.c.opts.Addr, patience)
			}
		}
	}
}

// take returns the next entries to send, nil when all are on their way.
func (w *Writer) take() []*logcorev1.NewEntry {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch []*logcorev1.NewEntry
	bytes := 0
	for w.sent < len(w.queue) {
		p := w.queue[w.sent]
		if len(batch) > 0 && bytes+p.bytes > messageBytesMax {
			break
		}
		batch = append(batch, p.entry)
		bytes += p.bytes
		p.attempts++
		w.sent++
	}
	return batch
}

func (w *Writer) stalled(patience time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > 0 && time.Since(w.progress) > patience
}

func (w *Writer) receive(st appendStream, acked *bool) error {
	for {
		resp, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w at %s: the service ended the stream", ErrUnavailable, w.c.opts.Addr)
		}
		if err != nil {
			return remote(err, w.c.opts.Addr)
		}
		if err := w.acknowledge(resp); err != nil {
			return err
		}
		*acked = true
	}
}

// acknowledge resolves the futures of the entries that a response covers.
func (w *Writer) acknowledge(resp *logcorev1.AppendStreamResponse) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	n := len(resp.Entries)
	if n == 0 || n > w.sent || w.queue[n-1].entry.Sequence != resp.ThroughSequence {
		return fmt.Errorf("%w: log %q: acknowledgement of %d entries through sequence %d does not fit what was sent", logcore.ErrInvalid, w.log, n, resp.ThroughSequence)
	}
	for i, a := range resp.Entries {
		p := w.queue[i]
		w.bytes -= p.bytes
		if p.future != nil {
			p.future.resolve(Appended{LSN: logcore.LSN(a.Lsn), Time: logcore.HLC(a.Time)}, nil)
		}
		w.queue[i] = nil
	}
	w.lastLSN = max(w.lastLSN, logcore.LSN(resp.Entries[n-1].Lsn))
	w.queue = w.queue[n:]
	w.sent -= n
	w.progress = time.Now()
	w.roomLocked()
	return nil
}

// learn takes in what a typed refusal says about what is pending: the service
// acknowledges everything it took before it ends a stream with an error of its own,
// and writes nothing of what was sent behind, so what this stream carried and nobody acknowledged is not in the log.
func (w *Writer) learn(err error) {
	if !nothingWritten(err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.queue {
		if p.attempts == 1 {
			p.attempts = 0
		}
	}
}

// settle decides what a final error means for what is pending. When it is known that
// no attempt at any pending entry was taken, they fail and their sequence numbers are
// used again. Otherwise an attempt may still arrive, so the writer ends. So it does in the
// middle of a transaction of several parts: some of them may be in the log.
func (w *Writer) settle(err error) {
	w.mu.Lock()
	clean := nothingWritten(err) && len(w.queue) > 0
	for _, p := range w.queue {
		if p.attempts > 0 || p.entry.Kind != logcorev1.EntryKind_ENTRY_KIND_DATA {
			clean = false
		}
	}
	if clean {
		w.sequence = w.queue[0].entry.Sequence - 1
		w.failLocked(fmt.Errorf("client: log %q: nothing was written: %w", w.log, err))
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	if !errors.Is(err, logcore.ErrFenced) {
		err = fmt.Errorf("%w: log %q: %w", ErrUnknownOutcome, w.log, err)
	}
	w.poison(err)
}

// nothingWritten lists the refusals that come before an entry is ordered.
func nothingWritten(err error) bool {
	return errors.Is(err, logcore.ErrTooLarge) || errors.Is(err, logcore.ErrInvalid) || errors.Is(err, logcore.ErrDiskFull) || refused(err)
}

// renew extends the lease of an idle writer, and finds out early when it was fenced.
func (w *Writer) renew(ctx context.Context) {
	tick := time.NewTicker(max(w.lease/3, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rctx, cancel := context.WithTimeout(ctx, max(w.lease/3, time.Second))
		_, err := w.c.logs.RenewWriter(rctx, &logcorev1.RenewWriterRequest{Log: w.log, Epoch: uint64(w.epoch), Incarnation: w.incarnation})
		cancel()
		if err = remote(err, w.c.opts.Addr); errors.Is(err, logcore.ErrFenced) {
			w.poison(fmt.Errorf("client: log %q, epoch %d: %w", w.log, w.epoch, err))
			return
		}
	}
}
