package hotlog

import (
	"cmp"
	"errors"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// checkSealed is the checker's work, the oldest segments first. It reads every sealed segment
// once: those that Open knew by their footers only, those that were finished from memory, so
// that rot or a misdirected write is found while others still have the entries, and those
// that could not be finished from memory, to finish them. What it finds is counted, logged
// and reported; the log goes on.
func (l *Log) checkSealed() {
	began := time.Now()
	var segments, bytes int64
	view := *l.view.Load()
	for i, s := range view {
		src, c := l.reader(s) // first: what is cut behind it is noticed then
		l.mu.Lock()
		sum, unchecked, unfinished := s.sum, s.finished && !s.checked, c.sealed && !s.finished && !s.unfinishable && i < len(view)-1
		l.mu.Unlock()
		if !unchecked && !unfinished {
			continue
		}
		slow := &pacedReader{segmentReader: src}
		slow.open()
		got, err := segment.Summarize(slow, s.header, c.end, l.opts.LogOf, cmp.Or(sum.DigestKind, segment.DigestSums))
		if slow.direct != nil {
			slow.direct.Close()
		}
		if errors.Is(err, errStopped) {
			return
		}
		if unfinished {
			_ = l.finishRead(s, src, c, got, err) // reported there
		} else if !l.checkedAs(s, sum, got, err) {
			continue
		}
		segments, bytes = segments+1, bytes+sum.End
	}
	if segments > 0 {
		l.metrics.checkedBytes.Add(float64(bytes))
		l.log.Info("hot log: sealed segments checked", "dir", l.dir.Path(), "segments", segments, "bytes", bytes, "took", time.Since(began))
	}
}

// checkedAs takes down that a segment whose footer says sum was read, as got or with an
// error; false when it was gone, or could not be opened and is to be read later.
func (l *Log) checkedAs(s *segfile, sum, got segment.Summary, err error) bool {
	if errors.Is(err, errGone) || errors.Is(err, logcore.ErrOverloaded) {
		return false
	}
	if err == nil {
		err = segment.PlaceOf(got.Differs(sum), sum.End, sum.Last)
	}
	l.mu.Lock()
	s.checked = true
	l.mu.Unlock()
	if err == nil {
		return true
	}
	if err = l.damaged(s, err); !errors.Is(err, logcore.ErrCorrupt) {
		l.log.Warn("hot log: a sealed segment could not be checked", "dir", l.dir.Path(), "segment", s.name, "err", err)
	}
	return true
}

// errStopped: the log is being closed.
var errStopped = errors.New("hotlog: stopped")

const (
	// checkPieceBytes is what the checker reads at once. A commit may have to wait for that.
	checkPieceBytes = 128 << 10
	// checkRestBusy is how many times as long as a piece took the checker rests before the
	// next while appends become durable, checkRestIdle while none do.
	checkRestBusy, checkRestIdle = 15, 1
	checkRestMax                 = time.Second
)

// pacedReader rests between pieces, for long while the log is busy, so that it takes
// a sixteenth of a processor and of the device then. It ends when the log is closed. It
// reads past the page cache where the medium can: what is read through the cache held up
// the commits by milliseconds, because they write the same device past it.
type pacedReader struct {
	segmentReader
	direct  media.File  // nil: through the cache
	buf     []byte      // aligned, for direct
	durable logcore.LSN // when the last piece was read
	began   time.Time   // of that; what was done with it counts
}

// open is tried once; where it fails the cache will do.
func (r *pacedReader) open() {
	if d, ok := r.l.dir.Dir.(media.DirectOpener); ok && r.lock() == nil {
		defer r.l.structMu.RUnlock()
		if f, err := d.OpenDirect(r.s.name); err == nil {
			r.direct, r.buf = f, media.Buffer(checkPieceBytes+2*media.AlignMax)
		}
	}
}

// piece reads p, which is no longer than checkPieceBytes.
func (r *pacedReader) piece(p []byte, off int64) (int, error) {
	if r.direct != nil {
		if err := r.lock(); err != nil {
			return 0, err
		}
		skip := off & (media.AlignMax - 1)
		n, _ := r.direct.ReadAt(r.buf[:wholeBlocks(skip+int64(len(p)))], off-skip)
		r.l.structMu.RUnlock()
		if n >= int(skip)+len(p) {
			return copy(p, r.buf[skip:]), nil
		}
	}
	return r.segmentReader.ReadAt(p, off) // says what is wrong
}

func (r *pacedReader) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		if err = r.rest(); err != nil {
			return n, err
		}
		var got int
		got, err = r.piece(p[n:min(n+checkPieceBytes, len(p))], off+int64(n))
		n += got
	}
	return n, err
}

// rest waits until the next piece may be read.
func (r *pacedReader) rest() error {
	durable, times := r.l.Durable(), time.Duration(checkRestIdle)
	if durable != r.durable {
		times = checkRestBusy
	}
	pause := time.Duration(0)
	if !r.began.IsZero() {
		pause = min(times*time.Since(r.began), checkRestMax)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-r.l.stop:
		return errStopped
	case <-timer.C:
	}
	r.began, r.durable = time.Now(), r.l.Durable()
	return nil
}
