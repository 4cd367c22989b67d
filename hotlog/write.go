package hotlog

import (
	"time"

	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

const (
	// writeBytesMax is what goes to the medium in one call; a longer batch takes several.
	writeBytesMax = 4 << 20
	// directBytesMin is from which size on a batch is written from where it was encoded. A
	// smaller one is copied together with the beginning of its first block, so that the
	// next may go on in the same block of memory: many small ones would waste the cache.
	directBytesMin = 32 << 10
	// In tests of crashes pieces and batches without a copy are the rule.
	inlinePieceBytes, inlineDirectBytes = 4 << 10, 3 << 10
)

// writer brings batches into the shape that the medium wants: aligned, the block that the
// batch before ended in written again from its beginning, zeros behind the end. But for
// directMin, which is constant, only the committer touches it.
type writer struct {
	align     int64
	directMin int64
	lanes     lanes
	piece     int    // cut by that instead of by lanes; 0 = lanes decide
	buf       []byte // aligned; for small batches
	writes    []media.Write
	pieces    int // of the newest call

	// tail is what the last block of file tailOf holds before tailEnd.
	tail    [media.AlignMax]byte
	tailOf  *segfile
	tailEnd int64
}

func newWriter(align int, inline bool) writer {
	w := writer{align: int64(align), directMin: directBytesMin,
		buf: media.Buffer(directBytesMin + 2*media.AlignMax), writes: make([]media.Write, 0, laneCounts[len(laneCounts)-1]+1)}
	if inline {
		w.piece, w.directMin = inlinePieceBytes, inlineDirectBytes
	}
	return w
}

// down and up round an offset to the alignment.
func (w *writer) down(off int64) int64 { return off &^ (w.align - 1) }
func (w *writer) up(off int64) int64   { return w.down(off + w.align - 1) }

// shape returns what is to be written of b, from down(b.off) on.
func (w *writer) shape(b *batch) ([]byte, error) {
	before := b.off - w.down(b.off)
	end := before + b.bytes
	blocks := b.memory[int64(b.at)-before:]
	if b.fresh {
		if err := w.lead(b.seg, b.off, blocks[:before]); err != nil {
			return nil, err
		}
	}
	if b.bytes < w.directMin {
		copy(w.buf, blocks[:end])
		blocks = w.buf
	}
	blocks = blocks[:w.up(end)]
	clear(blocks[end:])
	return blocks, nil
}

// lead fills p with what the file holds in front of off.
func (w *writer) lead(s *segfile, off int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if w.tailOf == s && w.tailEnd == off {
		copy(p, w.tail[:])
		return nil
	}
	// The log was opened or its tail cut: what the block holds was checked then.
	n, err := s.f.ReadAt(p, off-int64(len(p)))
	if n == len(p) {
		return nil
	}
	return err
}

// flush makes blocks durable at off, in pieces under way at once, and first, if it has
// one, a mark beside them.
func (w *writer) flush(s *segfile, blocks []byte, off int64, mark media.Write) (bytes int64, err error) {
	w.writes = w.writes[:0]
	if mark.P != nil {
		w.writes = append(w.writes, mark)
		bytes += int64(len(mark.P))
	}
	choice := w.lanes.choose(len(blocks))
	pieces := laneCounts[choice]
	if w.piece > 0 {
		pieces = max(1, min(len(blocks)/w.piece, laneCounts[len(laneCounts)-1]))
	}
	w.pieces = pieces
	size := int(w.up(int64((len(blocks) + pieces - 1) / pieces)))
	for from := 0; from < len(blocks); from += size {
		to := min(from+size, len(blocks))
		w.writes = append(w.writes, media.Write{P: blocks[from:to], Off: off + int64(from)})
	}
	bytes += int64(len(blocks))
	began := time.Now()
	if err := s.f.WriteSync(w.writes); err != nil {
		return bytes, err
	}
	w.lanes = w.lanes.learn(choice, len(blocks), time.Since(began))
	return bytes, nil
}

// write makes the frames of b durable, and a mark with the first of them.
func (w *writer) write(b *batch, mark media.Write) (written int64, err error) {
	blocks, err := w.shape(b)
	if err != nil {
		return 0, err
	}
	w.tailOf = nil
	end := b.off - w.down(b.off) + b.bytes
	last := blocks[w.down(end):end]
	// Commit point: of the batch.
	for off := w.down(b.off); len(blocks) > 0; {
		part := blocks[:min(len(blocks), writeBytesMax)]
		n, err := w.flush(b.seg, part, off, mark)
		written += n
		if err != nil {
			return written, err
		}
		blocks, off, mark = blocks[len(part):], off+int64(len(part)), media.Write{}
	}
	copy(w.tail[:], last)
	w.tailOf, w.tailEnd = b.seg, b.end
	return written, nil
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
	end := l.writer.up(b.end)
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
	written, err := l.writer.write(b, mark)
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
