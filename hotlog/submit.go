package hotlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// batchBytesMax is where a batch stops taking entries. A single longer entry is a
// batch of its own.
const batchBytesMax = 4 << 20

// batch is what one write and one sync make durable: entries of one segment.
type batch struct {
	seg         *segfile
	first, last logcore.LSN
	off, end    int64 // file range of the frames, [off, end)
	prev, sum   uint32
	prevTerm    uint64
	before      segment.Summary // of seg, before the batch
	sealed      bool            // ends with a SEAL
	bytes       int64           // of the frames
	chunk       *chunk          // that holds them, from at on
	at          int
	memory      []byte        // of chunk, all its capacity
	fresh       bool          // what the file holds in front of off, in the same block, is not in front of at
	came        time.Time     // when its first entry came
	wake        *sync.Cond    // those who wait for it in append, until done
	waiters     int           // of wake
	settled     chan struct{} // of those whose wait may be cut short; nil = there are none
	done        []func(error) // of those submissions whose last entry is in it
}

// Submit queues entries, which must follow Last() without a gap, and returns without
// waiting. done is called once, in the order of submission, on the committer's
// goroutine: with nil when all entries are durable, or with an error. Then everything
// submitted behind fails too, and Last() is back at Durable(). It must not block, nor call anything of the log but Submit
// and the plain getters. Payloads are copied before Submit returns.
//
// A KindSeal entry ends its segment. A returned error means that nothing was queued
// and done will not be called; it wraps logcore.ErrOverloaded when the queue is
// full, logcore.ErrTooLarge, logcore.ErrInvalid, logcore.ErrPoisoned or
// logcore.ErrClosed. done gets one that wraps logcore.ErrDiskFull when no segment
// could be allocated: nothing was written then, and the same entries may be
// submitted again.
func (l *Log) Submit(entries []logcore.Entry, done func(error)) error {
	_, err := l.enqueue(entries, false, done)
	return err
}

// enqueue is Submit and Enqueue; with number it gives the entries their LSNs.
func (l *Log) enqueue(entries []logcore.Entry, number bool, done func(error)) (Ticket, error) {
	bytes, err := l.check(entries, number)
	if err != nil {
		return Ticket{}, err
	}
	l.lockSoon()
	defer l.mu.Unlock()
	t, b, err := l.queue(entries, bytes, number)
	if err == nil && done != nil {
		b.done = append(b.done, done)
	}
	return t, err
}

// queue puts entries of so many bytes into the log, in memory, and returns the batch that
// the last of them is in; mu is held.
func (l *Log) queue(entries []logcore.Entry, bytes int64, number bool) (Ticket, *batch, error) {
	if number {
		for i := range entries {
			entries[i].LSN = l.last + 1 + logcore.LSN(i)
		}
	}
	if err := l.admit(entries[0].LSN, bytes); err != nil {
		return Ticket{}, nil, err
	}
	var b *batch
	for i := range entries {
		b = l.put(&entries[i])
	}
	l.queued += bytes
	full := l.filling == nil || len(l.pending) > 1 || l.filling.bytes >= batchBytesMax
	l.submitted.Add(uint64(len(entries)))
	if full != l.full.Swap(full) && full || l.parked.Load() {
		l.unpark()
	}
	return Ticket{LSN: l.last, life: l.life.Load()}, b, nil
}

// lockSoon takes mu. Many callers come at once and hold it for a fraction of a
// microsecond each; sync.Mutex would put a goroutine to sleep for that at once, because
// others are ready to run.
func (l *Log) lockSoon() {
	const tries = 64
	for range tries {
		if l.mu.TryLock() {
			return
		}
	}
	l.mu.Lock()
}

// unpark wakes the committer.
func (l *Log) unpark() {
	l.parked.Store(false)
	poke(l.wake)
}

// check validates what needs no lock and returns the bytes of the frames.
func (l *Log) check(entries []logcore.Entry, number bool) (bytes int64, err error) {
	if len(entries) == 0 {
		return 0, fmt.Errorf("%w: hotlog: submit of no entries", logcore.ErrInvalid)
	}
	for i := range entries {
		e := &entries[i]
		if len(e.Payload) > l.opts.EntryBytesMax {
			return 0, fmt.Errorf("%w: hotlog: entry %d has %d bytes, the limit is %d", logcore.ErrTooLarge, e.LSN, len(e.Payload), l.opts.EntryBytesMax)
		}
		if !e.Kind.Valid() || !number && e.LSN != entries[0].LSN+logcore.LSN(i) {
			return 0, fmt.Errorf("%w: hotlog: entry %d of kind %v, number %d of a submission that begins at %d", logcore.ErrInvalid, e.LSN, e.Kind, i, entries[0].LSN)
		}
		bytes += segment.FrameBytes(len(e.Payload))
	}
	if bytes > l.opts.QueueBytesMax {
		return 0, fmt.Errorf("%w: hotlog: submission of %d bytes, the queue holds %d: submit in parts", logcore.ErrTooLarge, bytes, l.opts.QueueBytesMax)
	}
	return bytes, nil
}

// admit decides with mu held whether entries from first on can be queued.
func (l *Log) admit(first logcore.LSN, bytes int64) error {
	if err := l.stateErr(); err != nil {
		return err
	}
	if first != l.last+1 {
		return fmt.Errorf("%w: hotlog: submission begins at LSN %d, the last one is %d", logcore.ErrInvalid, first, l.last)
	}
	if l.queued+bytes > l.opts.QueueBytesMax {
		return fmt.Errorf("%w: hotlog: %d bytes are queued, the limit is %d", logcore.ErrOverloaded, l.queued, l.opts.QueueBytesMax)
	}
	return nil
}

// put encodes one entry into the batch being filled, which it returns; mu is held.
func (l *Log) put(e *logcore.Entry) *batch {
	if l.tail.sealed {
		l.tail = newSegfile(segment.Header{ID: segment.ID{Shard: l.opts.Shard, First: e.LSN}, Prev: l.lastSum, PrevTerm: l.lastTerm})
		l.filling = nil
	}
	s, size := l.tail, int(segment.FrameBytes(len(e.Payload)))
	b := l.filling
	if b == nil || b.bytes >= batchBytesMax || !b.chunk.fits(size) {
		b = l.newBatch(e.LSN, size)
	}
	sum := b.chunk.add(s.salt, l.lastSum, e)
	s.sum.Add(e, sum)
	b.bytes += int64(size)
	b.last, b.sum, b.end = e.LSN, sum, s.sum.End
	l.last, l.lastSum, l.lastTerm = e.LSN, sum, e.Term
	if e.Kind == logcore.KindSeal {
		s.sealed, b.sealed = true, true
		l.filling = nil
	}
	return b
}

// newBatch begins the batch of l.tail whose first entry is lsn, of size bytes; mu is held.
func (l *Log) newBatch(lsn logcore.LSN, size int) *batch {
	var b *batch
	if n := len(l.spare); n > 0 {
		b, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		b = &batch{wake: sync.NewCond(unlocker{&l.mu})}
	}
	s := l.tail
	if s.salt == 0 {
		s.salt = s.header.ID.Salt()
	}
	apart := l.newest != nil && l.newest.bytes >= l.writer.directMin // see writer
	in, fresh := l.cache.place(size, s.sum.End, apart, lsn, l.Durable())
	*b = batch{seg: s, first: lsn, off: s.sum.End, prev: l.lastSum, prevTerm: l.lastTerm,
		before: s.sum, chunk: in, at: len(in.buf), memory: in.buf[:cap(in.buf)], fresh: fresh,
		done: b.done[:0], wake: b.wake, came: time.Now()}
	l.filling, l.newest = b, b
	l.pending = append(l.pending, b)
	return b
}

// Append is Submit and the wait for its completion; when the queue is full it waits
// for room first. When ctx ends during the wait for completion, the outcome of the
// entries is unknown: they may still become durable.
func (l *Log) Append(ctx context.Context, entries []logcore.Entry) error {
	return l.append(ctx, entries, false)
}

// append is Append and AppendNext.
func (l *Log) append(ctx context.Context, entries []logcore.Entry, number bool) error {
	bytes, err := l.check(entries, number)
	if err != nil {
		return err
	}
	for {
		t, err := l.queueAndWait(ctx, entries, bytes, number)
		if err == nil {
			return l.outcome(t)
		}
		if !errors.Is(err, logcore.ErrOverloaded) {
			return err
		}
		if waitErr := l.await(ctx, func() (bool, error) { return l.queued+bytes <= l.opts.QueueBytesMax, nil }); waitErr != nil {
			return fmt.Errorf("hotlog: append: %w: %w", err, waitErr)
		}
	}
}

// queueAndWait puts entries into the log and returns when they are settled. The waiters of
// a batch are woken all at once, which costs less than a channel for each.
func (l *Log) queueAndWait(ctx context.Context, entries []logcore.Entry, bytes int64, number bool) (Ticket, error) {
	l.lockSoon()
	t, b, err := l.queue(entries, bytes, number)
	if err != nil {
		l.mu.Unlock()
		return t, err
	}
	if ctx.Done() == nil {
		b.waiters++
		b.wake.Wait() // unlocks mu, and does not lock it again
		return t, nil
	}
	if b.settled == nil {
		b.settled = make(chan struct{})
	}
	settled := b.settled
	l.mu.Unlock()
	select {
	case <-settled:
		return t, nil
	case <-ctx.Done():
		return t, fmt.Errorf("hotlog: append, outcome unknown: %w", ctx.Err())
	}
}

// unlocker is mu for a sync.Cond whose waiters don't want it back.
type unlocker struct{ mu *sync.Mutex }

func (u unlocker) Lock()   {}
func (u unlocker) Unlock() { u.mu.Unlock() }

// outcome is Done for a ticket that is known to be settled.
func (l *Log) outcome(t Ticket) error {
	if l.Durable() >= t.LSN && l.life.Load() == t.life { // in this order: see life
		return nil
	}
	_, err := l.Done(t)
	return err
}

// SealDue reports whether the open segment has passed the size at which it should be
// sealed, 7/8 of SegmentBytes. It is false again once a SEAL was submitted.
func (l *Log) SealDue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.tail.sealed && l.tail.sum.End >= l.opts.sealAtBytes()
}
