package hotlog

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// TrimHead drops every sealed segment whose last entry is at or below upTo and
// recycles its file. The last segment stays, also when it is sealed. On return the trim
// is durable; a crash in between leaves a log that begins at a later segment, without a
// gap. It works on a full disk: nothing is allocated. An error that wraps
// logcore.ErrOverloaded says that file descriptors have run out: try again.
func (l *Log) TrimHead(upTo logcore.LSN) error {
	l.structMu.Lock()
	defer l.structMu.Unlock()
	for {
		if err := l.Err(); err != nil {
			return err
		}
		s, err := l.dropHead(upTo)
		if err != nil {
			return err
		}
		if s == nil {
			l.wakeHousekeeper()
			return nil
		}
		if err := l.recycle(s); err != nil {
			return l.stopWriting(err)

		}
	}
}

// dropHead takes the oldest segment out of the view if it can go; structMu is held.
func (l *Log) dropHead(upTo logcore.LSN) (*segfile, error) {
	l.mu.Lock()
	view := *l.view.Load()
	stays := len(view) < 2 || !view[0].committed.sealed || view[0].committed.last > upTo
	l.mu.Unlock()
	if stays {
		return nil, nil
	}
	if err := segdir.Keep(view[0].f); err != nil { // before it is too late to go back
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := (*l.view.Load())[1:]
	l.view.Store(&rest)
	return view[0], nil
}

// TruncateTail drops every entry above after, durable or not, and waits for what was
// submitted before. On return the next entry is after+1. A crash in between leaves a
// log that ends somewhere from after to its old end. It fails with an error that
// wraps logcore.ErrTrimmed when after is below First()-1, and with one that wraps
// logcore.ErrOverloaded when file descriptors have run out, or logcore.ErrCorrupt when the
// segment to be cut is damaged below after: nothing is changed then. It must not run beside
// Submit, nor be called from a completion.
func (l *Log) TruncateTail(after logcore.LSN) error {
	result := make(chan error, 1)
	select {
	case l.commands <- func() { result <- l.truncate(after) }:
		return <-result
	case <-l.done:
		return fmt.Errorf("hotlog: %s: %w", l.dir.Path(), logcore.ErrClosed)
	}
}

// truncate is TruncateTail on the committer.
func (l *Log) truncate(after logcore.LSN) error {
	for b := l.nextBatch(); b != nil; b = l.nextBatch() {
		l.commit(b)
	}
	l.failPending()
	if err := l.Err(); err != nil && !errors.Is(err, logcore.ErrClosed) {
		return err
	}
	l.structMu.Lock()
	defer l.structMu.Unlock()
	if first := l.First(); after+1 < first {
		return fmt.Errorf("%w: hotlog: truncate behind LSN %d, the oldest kept is %d", logcore.ErrTrimmed, after, first)
	}
	if after >= l.Durable() {
		return nil
	}
	for _, s := range *l.view.Load() {
		if s.header.ID.First > after+1 || s.committed.last > after {
			if err := segdir.Keep(s.f); err != nil {
				return err
			}
		}
	}
	// Whatever may be wrong with what stays shows before anything goes.
	stays, _, _, err := l.find(after + 1)
	if err != nil {
		return err
	}
	kept, err := l.prefix(stays, after)
	if err != nil {
		return err
	}
	l.log.Info("hot log: tail truncated", "dir", l.dir.Path(), "after", after, "durable", l.Durable())
	if err = l.dropBehind(stays); err == nil {
		err = l.cut(stays, kept)
	}
	if err != nil {
		l.poison(nil, err)
		return l.Err()
	}
	return nil
}

// dropBehind frees the segments behind stays, the newest first, so that the log never has
// a gap.
//
// Their entries are erased, not only given up: the file may get a segment that begins
// at the same LSN again, whose frames have the same salt, and with the same entries
// the chain of checksums would lead up to those that were given up.
func (l *Log) dropBehind(stays *segfile) error {
	for {
		view := *l.view.Load()
		s := view[len(view)-1]
		if s == stays {
			return nil
		}
		if err := l.cut(s, prefix{sum: segment.NewSummary(s.header), term: s.header.PrevTerm}); err != nil {
			return err
		}
		l.mu.Lock()
		view = view[: len(view)-1 : len(view)-1]
		l.view.Store(&view)
		l.mu.Unlock()
		if err := l.recycle(s); err != nil {
			return err
		}
	}
}

// cut ends segment s, which may be sealed, behind a prefix of its entries.
func (l *Log) cut(s *segfile, kept prefix) error {
	old := l.lower(s, kept)
	c := s.committed
	// First the proof is lowered, then the entries go: the other way round a crash
	// would leave proven entries missing.
	if c.end < old {
		if err := s.writeMark(s.next(c, max(s.mark.Reach, old))); err != nil {
			return err
		}
		if err := zero(s.f, c.end, old); err != nil {
			return err
		}
	}
	return s.writeMark(s.next(c, max(s.mark.Reach, c.end+l.opts.reachAheadBytes())))
}

// lower makes the log end behind a prefix of segment s, in memory, and returns where what
// the segment held ended in its file. Readers must not be sent to what goes, even if that fails.
func (l *Log) lower(s *segfile, kept prefix) (old int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old = s.committed.end
	if s.committed.sealed {
		old += segment.FooterRoom(old) // of a footer that may be there, whole or in part
	}
	last := kept.sum.Last
	s.sum, s.sealed, s.committed = kept.sum, false, committed{last: last, end: kept.sum.End, sum: kept.sum.Sum}
	s.finished, s.checked, s.unfinishable = false, false, false
	l.cuts++
	l.tail, l.filling = s, nil
	l.last, l.lastSum, l.lastTerm = last, kept.sum.Sum, kept.term
	l.endLife(last, fmt.Errorf("%w: hotlog: the tail was truncated behind LSN %d", logcore.ErrTrimmed, last))
	l.durable.Store(uint64(last))
	l.cache.reset()
	return old
}

// prefix is what a segment holds from its beginning up to some entry.
type prefix struct {
	sum  segment.Summary
	term uint64 // of the last entry
}

// prefix reads segment s up to and with after.
func (l *Log) prefix(s *segfile, after logcore.LSN) (prefix, error) {
	p := prefix{sum: segment.NewSummary(s.header), term: s.header.PrevTerm}
	frames := segment.NewReader(s.f, s.header.ID, s.header.Start(), s.f.Size())
	for p.sum.Last < after {
		e, esum, err := frames.Next()
		if err != nil {
			return p, l.readError(s, frames, err)
		}
		p.sum.Add(&e, esum)
		p.term = e.Term
	}
	return p, nil
}
