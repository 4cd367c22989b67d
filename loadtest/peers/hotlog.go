package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

const (
	// sealCheckBytes is how much payload goes by between two looks at SealDue, well
	// below the room that a segment keeps for what is on its way.
	sealCheckBytes = 32 << 10
	// sealedMax is how many sealed segments stay. Older ones are trimmed, as they
	// are in service once the archive has them, so that segments are recycled.
	sealedMax = 1
	// primeSeals is how many segments are sealed and trimmed before the load, so
	// that it begins as a log in service goes on: with recycled files at hand, and
	// not with the zeroing of new ones.
	primeSeals = 3
	// overloadWaitMax bounds how long a submit waits for the queue to drain.
	overloadWaitMax = 10 * time.Second
)

// hotLog does for a hot log what the shard's leader does: it stamps the entries, seals
// segments and trims old ones. The log numbers them.
type hotLog struct {
	log       *hotlog.Log
	clock     atomic.Uint64
	sinceSeal atomic.Int64 // payload bytes since SealDue was asked

	entries   []logcore.Entry        // of the one goroutine that enqueues
	completed func(n int, err error) // told of n more durable appends; set before the load

	mu     sync.Mutex
	queue  []func(error) // guarded by mu; of Submit, in the order of the LSNs
	seals  []logcore.LSN // guarded by mu; SEAL entries under way, which are no appends
	before logcore.LSN   // guarded by mu; durable the last time

	sealed  chan struct{} // a segment was sealed
	stop    chan struct{} // closed by Close
	trimmed chan error    // what the trimmer ended with, once
}

func hotlogPeer(ctx context.Context, segmentBytes int64) peer {
	open := func(dir string, told func(logcore.LSN, error)) (*hotlog.Log, error) {
		l, _, err := hotlog.Open(ctx, hotlog.Options{Dir: dir, SegmentBytes: segmentBytes, OnDurable: told, Logger: slog.New(slog.DiscardHandler)})
		return l, err
	}
	return peer{
		name: "logcore",
		apis: []api{async, blocking},
		open: func(dir string) (appendLog, error) {
			h := &hotLog{sealed: make(chan struct{}, 1), stop: make(chan struct{}), trimmed: make(chan error, 1)}
			h.completed = h.completeSubmitted
			var err error
			if h.log, err = open(dir, h.durable); err != nil {
				return nil, err
			}
			h.clock.Store(uint64(logcore.HLCAt(time.Now())))
			go h.trim()
			if err := h.prime(ctx); err != nil {
				return nil, errors.Join(err, h.Close())
			}
			return h, nil
		},
		read: func(dir string, visit func([]byte)) error {
			l, err := open(dir, nil)
			if err != nil {
				return err
			}
			return errors.Join(readHotLog(l, visit), l.Close())
		},
	}
}

// prime seals empty segments and trims them.
func (h *hotLog) prime(ctx context.Context) error {
	for range primeSeals {
		if err := h.seal(); err != nil {
			return err
		}
		if err := h.log.WaitDurable(ctx, h.log.Last()); err != nil {
			return err
		}
	}
	return h.trimTo(0)
}

// stamp makes an entry of a payload.
func (h *hotLog) stamp(e *logcore.Entry, payload []byte) {
	*e = logcore.Entry{Term: 1, Kind: logcore.KindData, Time: logcore.HLC(h.clock.Add(1)), Tx: logcore.TxID{1}, Payload: payload}
}

// Completions implements batchAppendLog.
func (h *hotLog) Completions(completed func(n int, err error)) { h.completed = completed }

// Enqueue implements batchAppendLog.
func (h *hotLog) Enqueue(payloads [][]byte) error {
	bytes := 0
	for len(h.entries) < len(payloads) {
		h.entries = append(h.entries, logcore.Entry{})
	}
	for i, p := range payloads {
		h.stamp(&h.entries[i], p)
		bytes += len(p)
	}
	if err := h.sealWhenDue(bytes); err != nil {
		return err
	}
	_, err := h.enqueue(h.entries[:len(payloads)])
	return err
}

// enqueue waits while the log's queue is full.
func (h *hotLog) enqueue(entries []logcore.Entry) (t hotlog.Ticket, err error) {
	var deadline time.Time
	for {
		t, err = h.log.Enqueue(entries)
		if !errors.Is(err, logcore.ErrOverloaded) {
			return t, err
		}
		if now := time.Now(); deadline.IsZero() {
			deadline = now.Add(overloadWaitMax)
		} else if now.After(deadline) {
			return t, err
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// durable is told by the log, in order.
func (h *hotLog) durable(durable logcore.LSN, err error) {
	h.mu.Lock()
	n := int(durable - h.before)
	h.before = durable
	for len(h.seals) > 0 && h.seals[0] <= durable {
		h.seals = h.seals[1:]
		n--
		select {
		case h.sealed <- struct{}{}:
		default: // the trimmer has one to come and looks at all segments then
		}
	}
	h.mu.Unlock()
	if n > 0 || err != nil {
		h.completed(n, err)
	}
}

// Submit implements appendLog.
func (h *hotLog) Submit(payload []byte, done func(error)) error {
	if err := h.sealWhenDue(len(payload)); err != nil {
		return err
	}
	var one [1]logcore.Entry
	h.stamp(&one[0], payload)
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.enqueue(one[:]); err != nil {
		return err
	}
	h.queue = append(h.queue, done)
	return nil
}

// completeSubmitted calls the callbacks of Submit; with an error, of all.
func (h *hotLog) completeSubmitted(n int, err error) {
	h.mu.Lock()
	n = min(n, len(h.queue))
	durable, failed := h.queue[:n], h.queue[n:]
	if h.queue = failed; err != nil {
		h.queue = nil
	}
	h.mu.Unlock()
	for _, done := range durable {
		done(nil)
	}
	if err == nil {
		return
	}
	for _, done := range failed {
		done(err)
	}
}

// Appender implements appendLog.
func (h *hotLog) Appender() func([]byte) error {
	one := make([]logcore.Entry, 1)
	return func(payload []byte) error {
		if err := h.sealWhenDue(len(payload)); err != nil {
			return err
		}
		h.stamp(&one[0], payload)
		return h.log.AppendNext(context.Background(), one)
	}
}

// sealWhenDue looks now and then whether the open segment is to be sealed.
func (h *hotLog) sealWhenDue(bytes int) error {
	since := h.sinceSeal.Add(int64(bytes))
	if since < sealCheckBytes || !h.sinceSeal.CompareAndSwap(since, 0) || !h.log.SealDue() {
		return nil
	}
	return h.seal()
}

// seal ends the open segment.
func (h *hotLog) seal() error {
	one := []logcore.Entry{{Term: 1, Kind: logcore.KindSeal, Time: logcore.HLC(h.clock.Add(1))}}
	h.mu.Lock()
	defer h.mu.Unlock()
	t, err := h.enqueue(one)
	if err == nil {
		h.seals = append(h.seals, t.LSN)
	}
	return err
}

// trim keeps the number of sealed segments down, off the commit path, until Close or
// its first error.
func (h *hotLog) trim() {
	for {
		select {
		case <-h.stop:
			h.trimmed <- nil
			return
		case <-h.sealed:
		}
		if err := h.trimTo(sealedMax); err != nil {
			h.trimmed <- err
			return
		}
	}
}

// trimTo drops all but the newest keep sealed segments.
func (h *hotLog) trimTo(keep int) error {
	var sealed []hotlog.SegmentInfo
	for _, s := range h.log.Segments() {
		if s.Sealed {
			sealed = append(sealed, s)
		}
	}
	if len(sealed) <= keep {
		return nil
	}
	return h.log.TrimHead(sealed[len(sealed)-1-keep].Last)
}

// Close implements appendLog.
func (h *hotLog) Close() error {
	close(h.stop)
	return errors.Join(<-h.trimmed, h.log.Close())
}

// readHotLog visits the data entries from the first to the last durable one.
func readHotLog(l *hotlog.Log, visit func([]byte)) error {
	const bytesMax = 1 << 20
	for next, end := l.First(), l.Durable()+1; next < end; {
		entries, err := l.Entries(next, end, bytesMax)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Kind == logcore.KindData {
				visit(e.Payload)
			}
		}
		next += logcore.LSN(len(entries))
	}
	return nil
}
