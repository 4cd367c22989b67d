package hotlog

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

const (
	// markLag is how long the proof may lag behind: a batch that is that much younger
	// than the last mark takes one along, and when nothing is submitted for so long the
	// committer writes one alone. Until then bit rot in what no mark speaks of yet
	// would look like a torn tail.
	markLag = 5 * time.Millisecond
	// inlineMarkEvery stands for it, in batches, where no clock decides anything.
	inlineMarkEvery = 3
)

// spinMax bounds how long the committer stays awake for entries that are expected. What
// takes longer it is woken for.
const spinMax = 50 * time.Microsecond

// commitLoop is the committer: the one goroutine that writes entries and marks.
func (l *Log) commitLoop() {
	defer close(l.done)
	timer := time.NewTimer(markLag)
	defer timer.Stop()
	for {
		decision, patience := l.decide()
		switch {
		case decision.begins():
			if b := l.nextBatch(); b != nil {
				l.metrics.begun[decision].Inc()
				l.commit(b)
			} else {
				l.failPending()
			}
			continue
		case decision == paceWait && patience <= spinMax:
			runtime.Gosched()
			continue
		case decision == pacePark:
			patience = markLag
		}
		l.parked.Store(decision != paceApart)
		if decision != paceApart && l.pendingCount() != l.seen {
			l.parked.Store(false) // it came in between
			continue
		}
		if l.inline || decision == pacePark && !l.unproven {
			timer.Stop() // inline, no clock decides anything
		} else {
			timer.Reset(patience)
		}
		select {
		case <-l.wake:
		case do := <-l.commands:
			do()
		case <-timer.C:
			if decision == pacePark {
				l.unproven = false
				l.markIdle(false)
			}
		case <-l.stop:
			l.drain()
			return
		}
		l.parked.Store(false)
	}
}

// drain commits what is left and ends the log in good order.
func (l *Log) drain() {
	for b := l.nextBatch(); b != nil; b = l.nextBatch() {
		l.commit(b)
	}
	l.failPending()
	l.markIdle(true)
	l.mu.Lock()
	l.ended = true
	l.announce()
	l.mu.Unlock()
}

// pendingCount returns how many entries wait to be taken by the committer.
func (l *Log) pendingCount() int { return int(l.submitted.Load() - l.taken) }

// decide asks the controller what to do now.
func (l *Log) decide() (paceDecision, time.Duration) {
	pending := l.pendingCount()
	if l.inline {
		l.seen = pending
		if pending > 0 {
			return paceIdle, 0
		}
		return pacePark, 0
	}
	now := time.Now()
	if pending != l.seen {
		l.seen, l.seenAt = pending, now
	}
	decision, patience := l.pace.step(paceInput{pending: pending, full: l.full.Load(), ended: now.Sub(l.endedAt), quiet: now.Sub(l.seenAt), begun: now.Sub(l.begunAt)})
	if decision == paceWait && l.waitedFrom == 0 {
		l.waitedFrom = pending
	}
	return decision, patience
}

// nextBatch takes the oldest pending batch; the one being filled takes no more then.
func (l *Log) nextBatch() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 || l.err != nil {
		l.taken = l.submitted.Load()
		return nil
	}
	b := l.pending[0]
	l.pending = slices.Delete(l.pending, 0, 1)
	if b == l.filling {
		l.filling = nil
	}
	l.taken += uint64(b.last - b.first + 1)
	l.full.Store(len(l.pending) > 1 || len(l.pending) == 1 && l.filling == nil)
	return b
}

// commit makes a batch durable and completes its requests, then, if it sealed its
// segment, begins the next one.
func (l *Log) commit(b *batch) {
	wrote, err := l.write(b)
	switch {
	case err == nil:
	case !wrote && errors.Is(err, logcore.ErrDiskFull):
		l.rewind(b, fmt.Errorf("hotlog: %s: nothing was written: %w", l.dir.Path(), err))
		return
	default:
		l.poison(b, err)
		return
	}
	sealed, seg := b.sealed, b.seg
	l.publish(b)
	if sealed {
		segdir.Loosen(seg.f) // as long as it is the last, no one else writes it
		if wrote, err := l.beginNext(); wrote && err != nil {
			l.poison(nil, err)
		} else if err != nil {
			l.log.Warn("hot log: no next segment yet; appends fail until there is room", "dir", l.dir.Path(), "err", err)
		}
		l.afterRoll()
	}
}

// room grows the file when the batch would leave no place for the SEAL and the
// footer. Only a segment that was not sealed when it was due gets there.
func (l *Log) room(b *batch) error {
	end := b.end
	if !b.sealed {
		end += segment.FrameBytes(0)
	}
	end += segment.FooterRoom(end)
	end, size := wholeBlocks(end), b.seg.f.Size()
	if end <= size {
		return nil
	}
	if end > segment.SegmentBytesMax {
		return fmt.Errorf("%w: segment %d would grow beyond %d bytes: seal it", logcore.ErrDiskFull, b.seg.header.ID.First, int64(segment.SegmentBytesMax))
	}
	step := max(l.opts.SegmentBytes/8, segment.BlockBytes)
	grown := wholeBlocks(max(end, size+step))
	free, err := l.dir.Free()
	if err != nil {
		return fmt.Errorf("%w: %w", logcore.ErrDiskFull, err)
	}
	if free < grown-size {
		return fmt.Errorf("%w: segment %d must grow by %d bytes, %d are free: free some space, or trim the log", logcore.ErrDiskFull, b.seg.header.ID.First, grown-size, free)
	}
	return b.seg.f.Grow(grown)
}

// publish makes a durable batch visible and completes its requests.
func (l *Log) publish(b *batch) {
	l.mu.Lock()
	b.seg.committed = committed{last: b.last, end: b.end, sum: b.sum, sealed: b.sealed}
	l.durable.Store(uint64(b.last))
	l.queued -= b.bytes
	l.announce()
	l.mu.Unlock()

	if l.unfolded += b.bytes; l.unfolded >= foldBytes && !l.inline {
		l.unfolded = 0
		poke(l.finWake)
	}
	entries, came, now := int(b.last-b.first+1), l.pendingCount(), time.Now()
	l.unproven = true
	begun := now.Add(-l.lastWrite)
	l.pace = l.pace.synced(commitFacts{entries: entries, came: came, first: b.came.Sub(l.endedAt), waitedFrom: l.waitedFrom, took: l.lastWrite, sinceLast: begun.Sub(l.begunAt)})
	l.waitedFrom, l.begunAt, l.seen, l.seenAt, l.endedAt = 0, begun, came, now, now
	if l.opts.OnDurable != nil {
		l.opts.OnDurable(b.last, nil)
	}
	b.complete(nil)
	l.metrics.paceCohort.Set(float64(l.pace.cohort))
	l.metrics.paceSync.Set(l.pace.sync.Seconds())
	l.metrics.durableLSN.Set(float64(b.last))
	l.metrics.batchEntries.Observe(float64(entries))
	l.metrics.batchBytes.Observe(float64(b.bytes))
	l.metrics.appendedBytes.Add(float64(b.bytes))
	l.metrics.commitLatency.Observe(now.Sub(b.came).Seconds())
	l.retire(b)
	// Whoever was just told may submit again before the next sync begins; without this
	// it carries only the first of them.
	runtime.Gosched()
}

// complete tells those who submitted or wait.
func (b *batch) complete(err error) {
	for _, done := range b.done {
		done(err)
	}
	if b.waiters > 0 {
		b.wake.Broadcast()
	}
	if b.settled != nil {
		close(b.settled)
	}
}

// retire keeps an emptied batch for the next one.
func (l *Log) retire(b *batch) {
	clear(b.done)
	l.mu.Lock()
	b.seg, b.chunk, b.memory, b.before = nil, nil, nil, segment.Summary{}
	l.spare = append(l.spare, b)
	l.mu.Unlock()
}

// announce wakes those who wait for Durable to rise or for room in the queue; mu is held.
func (l *Log) announce() {
	if l.advanced != nil {
		close(l.advanced)
		l.advanced = nil
	}
}

// poison ends all writing: the batch that failed, if any, and all behind it fail. It is
// for the committer; others use stopWriting.
func (l *Log) poison(b *batch, cause error) {
	l.rewind(b, l.stopWriting(cause))
}

// stopWriting ends all writing but what is under way and returns the error that says so.
// What is pending fails on the committer, where all completions come from.
func (l *Log) stopWriting(cause error) error {
	l.log.Error("hot log poisoned", "dir", l.dir.Path(), "err", cause)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = fmt.Errorf("hotlog: %s: %w: %w: reopen to recover", l.dir.Path(), logcore.ErrPoisoned, cause)
	l.announce()
	poke(l.wake)
	return l.err
}

// failPending fails what is pending when nothing is written any more.
func (l *Log) failPending() {
	l.mu.Lock()
	err := l.err
	l.mu.Unlock()
	if err != nil {
		l.rewind(nil, err)
	}
}

// rewind fails a batch and all pending ones, and takes the log back to what is durable.
func (l *Log) rewind(b *batch, err error) {
	l.mu.Lock()
	failed := l.pending
	if b != nil {
		failed = append([]*batch{b}, failed...)
	}
	l.pending, l.filling = nil, nil
	if len(failed) > 0 {
		f := failed[0]
		l.tail = f.seg
		l.tail.sum, l.tail.sealed = f.before, false
		l.tail.sum.Points = l.tail.sum.Points[:len(l.tail.sum.Points):len(l.tail.sum.Points)]
		l.last, l.lastSum, l.lastTerm = f.first-1, f.prev, f.prevTerm
		l.cache.reset()
		l.endLife(l.last, err)
	}
	for _, f := range failed {
		l.queued -= f.bytes
	}
	l.announce()
	l.mu.Unlock()
	if len(failed) > 0 && l.opts.OnDurable != nil {
		l.opts.OnDurable(l.Durable(), err)
	}
	for _, f := range failed {
		f.complete(err)
	}
}
