package hotlog

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// begin gives a segment its file and makes it visible.
func (l *Log) begin(s *segfile) (wrote bool, err error) {
	p, err := l.take()
	if err != nil {
		return false, fmt.Errorf("next segment: %w", err)
	}
	if err := s.begin(p, l.opts.reachAheadBytes()); err != nil {
		return true, fmt.Errorf("begin segment %d: %w", s.header.ID.First, err)
	}
	l.mu.Lock()
	view := *l.view.Load()
	view = append(view[:len(view):len(view)], s)
	l.view.Store(&view)
	l.mu.Unlock()
	l.metrics.rolls.Inc()
	return true, nil
}

// beginNext begins the segment behind the one just sealed, so that the first entry
// in it does not wait for that.
func (l *Log) beginNext() (wrote bool, err error) {
	l.mu.Lock()
	if l.tail.sealed && l.tail.committed.sealed {
		l.tail = newSegfile(segment.Header{ID: segment.ID{Shard: l.opts.Shard, First: l.last + 1}, Prev: l.lastSum, PrevTerm: l.lastTerm})
	}
	next := l.tail
	if len(l.pending) > 0 {
		next = l.pending[0].seg
	}
	l.mu.Unlock()
	if next.f != nil {
		return false, nil
	}
	return l.begin(next)
}

// afterRoll has the sealed segment marked and the pool filled.
func (l *Log) afterRoll() {
	if l.inline {
		l.housekeep()
		l.finishSealed(true)
		return
	}
	l.wakeHousekeeper()
}

// markIdle proves the last batch with a mark of its own. A clean mark goes into both
// slots: then an unreadable one is rot, and not the write of a crash.
func (l *Log) markIdle(clean bool) {
	l.mu.Lock()
	s, c, err := l.tail, l.tail.committed, l.err
	l.mu.Unlock()
	if err == nil && s.f == nil {
		l.markUnfollowed()
		return
	}
	if err != nil || s.mark.LSN == c.last && s.mark.Clean == clean {
		return
	}
	slots := 1
	if clean {
		slots = 2
	}
	for range slots {
		m := s.next(c, s.mark.Reach)
		m.Clean = clean
		if err := s.writeMark(m); err != nil {
			l.poison(nil, fmt.Errorf("mark: %w", err))
			return
		}
	}
}

// markUnfollowed finishes the last segment when there was no room for the next
// one: no later segment proves its last batch then.
func (l *Log) markUnfollowed() {
	view := *l.view.Load()
	if len(view) == 0 {
		return
	}
	// Nothing to finish while its SEAL is still queued: the timer was faster than the committer.
	err := l.finish(view[len(view)-1], true)
	switch {
	case errors.Is(err, logcore.ErrOverloaded): // no file descriptor
		l.unproven = true // so it is tried again in a moment
	case err != nil:
		l.poison(nil, fmt.Errorf("mark: %w", err))
	}
}
