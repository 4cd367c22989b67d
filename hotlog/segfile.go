package hotlog

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// reachAheadBytes is how far behind the end of a batch the next one may write without
// a mark of its own: a sixteenth of the segment, at most 8 MiB. The mark states it in
// advance, so recovery knows where the writes of a crash can be.
func (o Options) reachAheadBytes() int64 { return min(o.SegmentBytes/16, 8<<20) }

// wholeBlocks rounds the size of a segment file up, so that an aligned write reaches the end of the file.
func wholeBlocks(size int64) int64 { return (size + media.AlignMax - 1) &^ (media.AlignMax - 1) }

// segfile is a segment and its file.
type segfile struct {
	header segment.Header

	// name and f are set once, by the committer, before the segment is in the view.
	name string
	f    media.File

	// mark is the newest mark written. Written by the committer while the segment
	// is the last one, by the housekeeper (structMu held for reading) afterwards.
	mark    segment.Mark
	markBuf []byte // as mark

	salt segment.Salt // of its frames, once entries are appended; guarded by Log.mu

	folded *segment.Summary // of all entries, made from memory; nil = it was not. Guarded by Log.fold.mu

	// Guarded by Log.mu.
	sum       segment.Summary // of all entries submitted
	sealed    bool            // the last of them is a SEAL
	committed committed
	finished  bool // footer and sealed marks are on the medium; sum is the footer's
	checked   bool // finished, and the frames were read in this life of the log
	// unfinishable: making the footer or the sealed mark failed; it is not tried again.
	unfinishable bool
}

// committed is how far a segment is durable.
type committed struct {
	last   logcore.LSN
	end    int64
	sum    uint32
	sealed bool
}

func newSegfile(h segment.Header) *segfile {
	return &segfile{header: h, sum: segment.NewSummary(h),
		committed: committed{last: h.ID.First - 1, end: segment.FramesOffset, sum: h.Prev}}
}

// next returns the mark to follow s.mark, for a segment durable up to c.
func (s *segfile) next(c committed, reach int64) segment.Mark {
	return segment.Mark{Seq: s.mark.Seq + 1, State: segment.StateOpen, ID: s.header.ID,
		LSN: c.last, End: c.end, Sum: c.sum, Reach: min(max(reach, c.end), segment.SegmentBytesMax)}
}

// encodeMark returns m in its slot; the bytes are good until the next call.
func (s *segfile) encodeMark(m segment.Mark) media.Write {
	if s.markBuf == nil {
		s.markBuf = media.Buffer(segment.BlockBytes)
	}
	m.Append(s.markBuf[:0])
	return media.Write{P: s.markBuf, Off: segment.MarkSlotOffset(m.Seq)}
}

// writeMark makes m durable. Commit point: for a mark.
func (s *segfile) writeMark(m segment.Mark) error {
	if err := s.f.WriteSync([]media.Write{s.encodeMark(m)}); err != nil {
		return err
	}
	s.mark = m
	return nil
}

// begin gives the prepared file p to the segment: header and first mark, at once.
func (s *segfile) begin(p poolFile, ahead int64) error {
	s.name, s.f, s.mark = p.name, p.f, segment.Mark{Seq: p.seq}
	m := s.next(s.committed, segment.FramesOffset+ahead)
	header := media.Write{P: media.Buffer(segment.BlockBytes)}
	s.header.Append(header.P[:0])
	if err := s.f.WriteSync([]media.Write{header, s.encodeMark(m)}); err != nil {
		return err
	}
	s.mark = m
	return nil
}

// zero overwrites [from, to) of a file, as far as it goes, and syncs.
func zero(f media.File, from, to int64) error {
	to = min(to, f.Size())
	zeros := make([]byte, min(1<<20, max(to-from, 0)))
	for from < to {
		n := min(int64(len(zeros)), to-from)
		if _, err := f.WriteAt(zeros[:n], from); err != nil {
			return fmt.Errorf("zero the rest of the segment: %w", err)
		}
		from += n
	}
	return f.Sync()
}
