package hotlog

import (
	"time"

	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

const (
	// writeBytesMax is what goes to the medium in one call; a longer batch takes several.
	writeBytesMax = 4 << 20
	// inlinePieceBytes: in tests of crashes pieces are the rule.
	inlinePieceBytes = 4 << 10
)

// writer brings batches into the shape that the medium wants: consecutive, aligned,
// the block that the batch before ended in written again from its beginning. Only the
// committer touches it.
type writer struct {
	align  int64
	lanes  lanes
	piece  int    // cut by that instead of by lanes; 0 = lanes decide
	buf    []byte // aligned; grows up to writeBytesMax
	at     int64  // file offset of buf[0]
	n      int    // bytes in buf
	writes []media.Write
	pieces int // of the newest call

	// tail is what the last block of file tailOf holds before tailEnd.
	tail    [media.AlignMax]byte
	tailOf  *segfile
	tailEnd int64
}

func newWriter(align int) writer {
	return writer{align: int64(align), buf: media.Buffer(128 << 10), writes: make([]media.Write, 0, laneCounts[len(laneCounts)-1]+1)}
}

// down and up round an offset to the alignment.
func (w *writer) down(off int64) int64 { return off &^ (w.align - 1) }
func (w *writer) up(off int64) int64   { return w.down(off + w.align - 1) }

// begin makes ready for bytes of s from off on.
func (w *writer) begin(s *segfile, off, bytes int64) error {
	if want := min(w.up(bytes)+2*w.align, writeBytesMax); int64(len(w.buf)) < want {
		w.buf = media.Buffer(int(max(want, min(2*int64(len(w.buf)), writeBytesMax))))
	}
	w.at, w.n = w.down(off), int(off-w.down(off))
	if w.n == 0 {
		return nil
	}
	if w.tailOf == s && w.tailEnd == off {
		copy(w.buf, w.tail[:w.n])
		return nil
	}
	// The log was opened or its tail cut: what the block holds was checked then.
	n, err := s.f.ReadAt(w.buf[:w.n], w.at)
	if n == w.n {
		err = nil
	}
	return err
}

// fill takes from p what fits and returns the rest.
func (w *writer) fill(p []byte) []byte {
	n := copy(w.buf[w.n:], p)
	w.n += n
	return p[n:]
}

// flush makes what is in buf durable, padded with zeros, in pieces under way at once,
// and first, if it has one, a mark beside them.
func (w *writer) flush(s *segfile, mark media.Write) (bytes int64, err error) {
	end := int(w.up(int64(w.n)))
	clear(w.buf[w.n:end])
	w.writes = w.writes[:0]
	if mark.P != nil {
		w.writes = append(w.writes, mark)
		bytes += int64(len(mark.P))
	}
	choice := w.lanes.choose(end)
	pieces := laneCounts[choice]
	if w.piece > 0 {
		pieces = max(1, min(end/w.piece, laneCounts[len(laneCounts)-1]))
	}
	w.pieces = pieces
	size := int(w.up(int64((end + pieces - 1) / pieces)))
	for from := 0; from < end; from += size {
		to := min(from+size, end)
		w.writes = append(w.writes, media.Write{P: w.buf[from:to], Off: w.at + int64(from)})
		bytes += int64(to - from)
	}
	began := time.Now()
	if err := s.f.WriteSync(w.writes); err != nil {
		w.tailOf = nil
		return bytes, err
	}
	w.lanes = w.lanes.learn(choice, end, time.Since(began))
	rest := w.n - int(w.down(int64(w.n)))
	w.tailOf, w.tailEnd = s, w.at+int64(w.n)
	copy(w.tail[:], w.buf[w.n-rest:w.n])
	w.at, w.n = w.tailEnd-int64(rest), rest
	copy(w.buf, w.tail[:rest])
	return bytes, nil
}

// write puts the batch on the medium. wrote says whether a write was tried that could
// have left something behind.
func (l *Log) write(b *batch) (wrote bool, err error) {
	s := b.seg
	if s.f == nil {
		if wrote, err := l.begin(s); err != nil {
			return wrote, err
		}
	}
	if err := l.room(b); err != nil {
		return false, err
	}
	before := committed{last: b.first - 1, end: b.off, sum: b.prev}
	end := l.writer.up(b.off + b.writeBytes)
	if end > s.mark.Reach {
		if err := s.writeMark(s.next(before, end)); err != nil {
			return true, err
		}
	}
	start := time.Now()
	var mark media.Write
	var next segment.Mark
	if l.markDue(s, end, start) {
		// It speaks of the batches before, and is under way at the same time.
		next = s.next(before, end+l.opts.reachAheadBytes())
		mark = s.encodeMark(next)
	}
	written, err := l.writeFrames(b, mark)
	if err != nil {
		return true, err
	}
	if mark.P != nil {
		s.mark, l.markedAt, l.unmarked = next, start, 0
	}
	l.unmarked++
	l.lastWrite = time.Since(start)
	l.metrics.syncSeconds.Observe(l.lastWrite.Seconds())
	l.metrics.writtenBytes.Add(float64(written))
	l.metrics.pieces.Set(float64(l.writer.pieces))
	return true, nil
}

// writeFrames makes the bytes of b durable, and a mark with the first of them.
func (l *Log) writeFrames(b *batch, mark media.Write) (written int64, err error) {
	w := &l.writer
	if err := w.begin(b.seg, b.off, b.writeBytes); err != nil {
		return 0, err
	}
	for _, buf := range b.bufs {
		for buf = w.fill(buf); len(buf) > 0; buf = w.fill(buf) {
			n, err := w.flush(b.seg, mark)
			written += n
			if err != nil {
				return written, err
			}
			mark = media.Write{}
		}
	}
	// Commit point: of the batch.
	n, err := w.flush(b.seg, mark)
	return written + n, err
}

// markDue decides whether a batch that ends at end takes a mark along: when the last
// mark is markLag old, or half of what it reaches ahead is used up.
func (l *Log) markDue(s *segfile, end int64, now time.Time) bool {
	if end+l.opts.reachAheadBytes()/2 > s.mark.Reach {
		return true
	}
	if l.inline { // no clock decides anything then
		return l.unmarked >= inlineMarkEvery
	}
	return now.Sub(l.markedAt) >= markLag
}
