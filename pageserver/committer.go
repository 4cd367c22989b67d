package pageserver

import (
	"context"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// committer writes the sets of one log's ingester to the store, in order, while the
// ingester makes the next one: the memory table costs about as much as decoding, and is
// another processor's work. A set that waits for its turn is taken back by the ingester
// and grows, so sets are small while the log is slow and large while it is fast. The larger
// one is the less a change costs: what changes a page again takes no key of its own. So a set
// that shows that much is coming waits a moment to grow.
//
// It belongs to the ingester, which ends with it, and uses the store without
// Server.storeMu: the store is not replaced or closed while a log is followed.
type committer struct {
	s   *Server
	l   *logState
	ctx context.Context // of the stream: what waits for the store ends with it
	// failed ends the stream: its next batch may be far away.
	failed func()

	group sync.WaitGroup
	mu    sync.Mutex
	moved sync.Cond // on mu: waiting was taken, or busy ended
	// waiting is a set that was given and not begun; not nil only while busy. Guarded by mu.
	waiting *writeSet
	hurry   int           // who waits for all to be written; guarded by mu
	wake    chan struct{} // of who lets a set grow
	busy    bool          // a goroutine writes; guarded by mu
	err     error         // of the first set that failed; none is written after it; guarded by mu
	due     []duePage     // of sets that were written; guarded by mu
	spilled bool          // the store is marked to have a transaction in part; of who writes
}

const (
	// writeSetBytesMax is how large a set grows: large enough that many of its changes are of
	// the same pages and that what is due once a set is small change, small enough that readers
	// don't wait for it.
	writeSetBytesMax = 4 << 20
	// growBytesMin is from what size on a set waits to grow.
	growBytesMin = 128 << 10
	// dueMax bounds the pages that wait for an image; others are due again when they change.
	dueMax = 1 << 14
)

// besideBytesMin is how large a set is written by another goroutine: waking one takes
// longer than writing a smaller one. Changed by tests only.
var besideBytesMin = 32 << 10

// growFor is how long a set waits to grow at most. Changed by tests only.
var growFor = 10 * time.Millisecond

func newCommitter(ctx context.Context, s *Server, l *logState, failed func()) *committer {
	c := &committer{s: s, l: l, ctx: ctx, failed: failed, wake: make(chan struct{}, 1)}
	c.moved.L = &c.mu
	return c
}

// take returns the set that waits for its turn, if there is room in it, or an empty one. It
// waits while one set is being written and a full one waits.
func (c *committer) take() (*writeSet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.waiting != nil && c.waiting.size() >= writeSetBytesMax && c.err == nil {
		c.moved.Wait()
	}
	if c.err != nil {
		return nil, c.err
	}
	if set := c.waiting; set != nil {
		c.waiting = nil
		return set, nil
	}
	return newWriteSet(), nil
}

// give takes over a set that the ingester took. It is written before give returns when it
// is small and nothing is before it.
func (c *committer) give(set *writeSet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if !c.busy && set.size() < besideBytesMin {
		c.mu.Unlock()
		err := c.write(set)
		c.mu.Lock()
		c.err = err
		return err
	}
	if set.since.IsZero() {
		set.since = time.Now()
	}
	c.waiting = set // nothing else waits: it was taken before this set was
	if set.size() >= writeSetBytesMax {
		c.wakeUp()
	}
	if !c.busy {
		c.busy = true
		c.group.Go(c.run)
	}
	return nil
}

// run writes sets until none waits.
func (c *committer) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.waiting != nil && c.err == nil {
		if c.grows() {
			continue
		}
		set := c.waiting
		c.waiting = nil
		c.moved.Broadcast()
		c.mu.Unlock()
		err := c.write(set)
		c.mu.Lock()
		if c.err = err; err != nil {
			c.failed()
		}
	}
	c.busy = false
	c.moved.Broadcast()
}

// grows waits a moment, when the set that waits is one to be let grow, and reports whether it
// did. The ingester may have taken the set meanwhile. The caller holds mu.
func (c *committer) grows() bool {
	set := c.waiting
	left := growFor - time.Since(set.since)
	if n := set.size(); c.hurry > 0 || n < growBytesMin || n >= writeSetBytesMax || left <= 0 {
		return false
	}
	c.mu.Unlock()
	timer := time.NewTimer(left)
	select {
	case <-c.wake:
	case <-timer.C:
	}
	timer.Stop()
	c.mu.Lock()
	return true
}

// wakeUp ends the wait for a set to grow.
func (c *committer) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// idle reports whether everything given is in the store.
func (c *committer) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.busy
}

// settle returns when everything given is in the store.
func (c *committer) settle() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurry++
	c.wakeUp()
	for c.busy {
		c.moved.Wait()
	}
	c.hurry--
	return c.err
}

// close waits until nothing is written any more, and returns why a set could not be.
func (c *committer) close() error {
	c.mu.Lock()
	c.hurry++
	c.mu.Unlock()
	c.wakeUp()
	c.group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// takeDue returns the pages that are due an image and whose versions are in the store.
func (c *committer) takeDue() []duePage {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.due
	c.due = nil
	return due
}

// write writes a set, together with the state after it, and lets readers see its entries.
func (c *committer) write(set *writeSet) error {
	b := c.s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(writeSetBytesKept))
	defer b.Close()
	key := appendLogKey(nil, tagState, c.l.id)
	if err := b.Set(key, seal(key, encodeState(set.pos)), nil); err != nil {
		return err
	}
	if err := set.addTo(b, c.l.id); err != nil {
		return err
	}
	if err := c.markSpilled(b, set.partial); err != nil {
		return err
	}
	// Commit point: the effects and the position after them.
	if err := c.s.ingest(c.ctx, b); err != nil {
		return err
	}
	c.spilled = set.partial
	c.s.readers.renew()
	c.s.dirty.Store(true)
	if set.counted {
		c.l.bytes.Store(set.bytes)
	}
	c.l.commitState(set.pos)
	c.s.metrics.entries.Add(float64(set.entries))
	c.s.metrics.records.Add(float64(set.records))
	if len(set.due) > 0 {
		c.mu.Lock()
		c.due = append(c.due, set.due[:min(len(set.due), dueMax-len(c.due))]...)
		c.mu.Unlock()
	}
	set.release()
	return nil
}
