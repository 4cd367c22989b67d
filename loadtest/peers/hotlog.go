package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
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

// hotLog does for a hot log what the shard's leader does: it numbers and stamps the
// entries, seals segments and trims old ones.
type hotLog struct {
	log *hotlog.Log

	mu        sync.Mutex
	entry     [1]logcore.Entry // guarded by mu; the next entry. Submit encodes it before it returns
	sinceSeal int              // guarded by mu; payload bytes since SealDue was asked

	sealed  chan struct{} // a segment was sealed
	stop    chan struct{} // closed by Close
	trimmed chan error    // what the trimmer ended with, once
}

func hotlogPeer(ctx context.Context, segmentBytes int64) peer {
	open := func(dir string) (*hotlog.Log, error) {
		l, _, err := hotlog.Open(ctx, hotlog.Options{Dir: dir, SegmentBytes: segmentBytes, Logger: slog.New(slog.DiscardHandler)})
		return l, err
	}
	return peer{
		name: "logcore",
		apis: []api{async, blocking},
		open: func(dir string) (appendLog, error) {
			l, err := open(dir)
			if err != nil {
				return nil, err
			}
			h := newHotLog(l)
			if err := h.prime(ctx); err != nil {
				return nil, errors.Join(err, h.Close())
			}
			return h, nil
		},
		read: func(dir string, visit func([]byte)) error {
			l, err := open(dir)
			if err != nil {
				return err
			}
			return errors.Join(readHotLog(l, visit), l.Close())
		},
	}
}

func newHotLog(l *hotlog.Log) *hotLog {
	h := &hotLog{log: l, sealed: make(chan struct{}, 1), stop: make(chan struct{}), trimmed: make(chan error, 1)}
	h.entry[0] = logcore.Entry{LSN: l.Last() + 1, Term: 1, Time: logcore.HLCAt(time.Now())}
	go h.trim()
	return h
}

// prime seals empty segments and trims them.
func (h *hotLog) prime(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
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

// Submit implements appendLog.
func (h *hotLog) Submit(payload []byte, done func(error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sinceSeal += len(payload); h.sinceSeal >= sealCheckBytes {
		h.sinceSeal = 0
		if h.log.SealDue() {
			if err := h.seal(); err != nil {
				return err
			}
		}
	}
	h.entry[0].Kind = logcore.KindData
	h.entry[0].Tx = logcore.TxID{1}
	h.entry[0].Payload = payload
	return h.submit(done)
}

// submit numbers and stamps the entry. mu is held.
func (h *hotLog) submit(done func(error)) error {
	var deadline time.Time
	for {
		err := h.log.Submit(h.entry[:], done)
		if err == nil {
			h.entry[0].LSN++
			h.entry[0].Time++
			return nil
		}
		if !errors.Is(err, logcore.ErrOverloaded) {
			return err
		}
		if now := time.Now(); deadline.IsZero() {
			deadline = now.Add(overloadWaitMax)
		} else if now.After(deadline) {
			return err
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// seal ends the open segment. mu is held.
func (h *hotLog) seal() error {
	h.entry[0].Kind, h.entry[0].Tx, h.entry[0].Payload = logcore.KindSeal, logcore.TxID{}, nil
	return h.submit(func(err error) {
		if err != nil {
			return // whoever submits next is told
		}
		select {
		case h.sealed <- struct{}{}:
		default: // the trimmer has one to come and looks at all segments then
		}
	})
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

// Appender implements appendLog.
func (h *hotLog) Appender() func([]byte) error { return waitingAppender(h.Submit) }

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
