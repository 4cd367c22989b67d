package hotlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// errGone: a segment was dropped or cut while it was read.
var errGone = errors.New("hotlog: the segment was trimmed or truncated meanwhile")

// segmentReader reads a segment piece by piece, without holding up a trim or a
// truncation for longer than a piece takes, and notices when there was one.
type segmentReader struct {
	l    *Log
	s    *segfile
	cuts uint64
}

// reader returns a segmentReader and how far the segment is durable.
func (l *Log) reader(s *segfile) (segmentReader, committed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return segmentReader{l: l, s: s, cuts: l.cuts}, s.committed
}

// lock keeps the segment as it is until structMu.RUnlock, or fails with errGone.
func (r segmentReader) lock() error {
	r.l.structMu.RLock()
	if r.l.cuts == r.cuts && slices.Contains(*r.l.view.Load(), r.s) {
		return nil
	}
	r.l.structMu.RUnlock()
	return errGone
}

// ReadAt implements io.ReaderAt.
func (r segmentReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.lock(); err != nil {
		return 0, err
	}
	defer r.l.structMu.RUnlock()
	return r.s.f.ReadAt(p, off)
}

// finishInTurn is the finisher's work: it folds what has become durable, and finishes sealed
// segments as they come. The checker has the next turn.
func (l *Log) finishInTurn() {
	l.finishSealed(false)
	poke(l.checkWake)
}

// finishSealed finishes every sealed segment but the last, which the committer may still
// write to. Those that were not folded are read where that is wanted.
func (l *Log) finishSealed(read bool) {
	if err := l.Err(); err != nil && !errors.Is(err, logcore.ErrClosed) {
		return
	}
	l.foldUp()
	view := *l.view.Load()
	for _, s := range view[:max(len(view)-1, 0)] {
		l.finish(s, read)
	}
}

// finish writes the footer of a sealed segment and then, in both slots, the mark that says
// so. From then on the footer speaks for the segment. It comes from memory, or, when that
// does not have it and read is true, from the frames as read back. It does nothing when
// that is done, failed before, or the segment is not sealed.
func (l *Log) finish(s *segfile, read bool) error {
	src, c := l.reader(s)
	if !l.finishable(s) {
		return nil
	}
	sum, ok := l.folded(s, c)
	switch {
	case ok:
		return l.finishWith(s, src, c, sum, false)
	case !read:
		return nil
	}
	sum, err := segment.Summarize(src, s.header, c.end, l.opts.LogOf, segment.DigestSums)
	return l.finishRead(s, src, c, sum, err)
}

// finishable reports whether a segment is sealed and not finished.
func (l *Log) finishable(s *segfile) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.committed.sealed && !s.finished && !s.unfinishable
}

// finishRead finishes a segment with the summary of its frames as they were read, or with
// what was wrong with them.
func (l *Log) finishRead(s *segfile, src segmentReader, c committed, sum segment.Summary, err error) error {
	if errors.Is(err, errGone) || errors.Is(err, errStopped) {
		return nil
	}
	if errors.Is(err, logcore.ErrOverloaded) {
		return err // no file descriptor: tried again
	}
	if err == nil && (sum.Last != c.last || sum.Sum != c.sum) {
		err = &logcore.CorruptionError{Offset: c.end, LSN: sum.Last, Reason: fmt.Sprintf("entries end at LSN %d with checksum %08x, want %d with %08x", sum.Last, sum.Sum, c.last, c.sum)}
	}
	if err != nil {
		return l.cantFinish(s, err)
	}
	return l.finishWith(s, src, c, sum, true)
}

// finishWith finishes a segment with its summary; read says that it came from the medium.
func (l *Log) finishWith(s *segfile, src segmentReader, c committed, sum segment.Summary, read bool) error {
	if src.lock() != nil {
		return nil
	}
	defer l.structMu.RUnlock()
	l.finMu.Lock()
	defer l.finMu.Unlock()
	if !l.finishable(s) {
		return nil
	}
	if err := segdir.Keep(s.f); err != nil {
		return err // tried again when the next segment is sealed
	}
	if err := s.writeFooter(c, sum.AppendFooter(nil)); err != nil {
		return l.cantFinish(s, err)
	}
	segdir.Loosen(s.f)
	l.mu.Lock()
	s.sum, s.finished, s.checked = sum, true, read
	l.mu.Unlock()
	return nil
}

// cantFinish gives a segment up: it has no footer in this life of the log.
func (l *Log) cantFinish(s *segfile, err error) error {
	l.mu.Lock()
	s.unfinishable = true
	l.mu.Unlock()
	err = l.damaged(s, err)
	l.log.Warn("hot log: a sealed segment could not be finished; it will be read in full at the next open", "dir", l.dir.Path(), "segment", s.name, "err", err)
	return err
}

// writeFooter puts the footer behind the frames and says so in both marks.
func (s *segfile) writeFooter(c committed, footer []byte) error {
	end := c.end + int64(len(footer))
	if err := s.f.Grow(wholeBlocks(end)); err != nil {
		return err
	}
	if end > s.mark.Reach {
		if err := s.writeMark(s.next(c, end)); err != nil {
			return err
		}
	}
	if _, err := s.f.WriteAt(footer, c.end); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	for range 2 {
		m := s.next(c, s.mark.Reach)
		m.State, m.Clean = segment.StateSealed, true
		if err := s.writeMark(m); err != nil {
			return err
		}
	}
	return nil
}

// damaged names the segment in an error about it and, when it is corruption, counts,
// logs and reports it.
func (l *Log) damaged(s *segfile, err error) error {
	err = segdir.InFile(l.dir, s.name, err)
	var place *logcore.CorruptionError
	if !errors.As(err, &place) {
		return err
	}
	l.opts.Corruptions.Inc()
	l.log.Error("hot log: corruption", "dir", l.dir.Path(), "segment", s.name, "offset", place.Offset, "lsn", place.LSN, "err", place.Reason)
	if l.opts.OnDamage != nil {
		l.opts.OnDamage(place)
	}
	return err
}
