package segment

import (
	"bytes"
	"errors"
	"io"
	"iter"

	"github.com/logcore/logcore"
)

// Span is a run of raw frames inside one segment, as it travels to the archive, to
// a peer and back: byte for byte what the file holds.
type Span struct {
	ID                  ID
	First, Last         logcore.LSN
	FirstTime, LastTime logcore.HLC // the first time that is not 0, and the highest
	Prev, Sum           uint32      // checksum of the entry before First, and of Last
	Sealed              bool        // Last is the SEAL entry that ends the segment
	Frames              []byte
}

// Entries decodes the span and checks every checksum, the chain from Prev to Sum,
// and that the LSNs run from First to Last without a gap. It stops after the first
// error. Payloads alias s.Frames.
func (s Span) Entries() iter.Seq2[logcore.Entry, error] {
	return func(yield func(logcore.Entry, error) bool) {
		r := NewReader(bytes.NewReader(s.Frames), s.ID, Point{LSN: s.First, Prev: s.Prev}, int64(len(s.Frames)))
		r.rest = s.Frames
		kind := logcore.Kind(0)
		for {
			e, _, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				yield(logcore.Entry{}, err)
				return
			}
			if kind = e.Kind; !yield(e, nil) {
				return
			}
		}
		if err := s.checkEnd(r, kind); err != nil {
			yield(logcore.Entry{}, err)
		}
	}
}

// checkEnd compares what was read with what the span says of itself.
func (s Span) checkEnd(r *Reader, last logcore.Kind) error {
	if r.next != s.Last+1 || r.prev != s.Sum {
		return damage("span of LSNs %d to %d with checksum %08x ends at %d with %08x", s.First, s.Last, s.Sum, r.next-1, r.prev)
	}
	if s.Sealed != (last == logcore.KindSeal) {
		return damage("span of LSNs %d to %d: sealed is %v, the last entry's kind is %v", s.First, s.Last, s.Sealed, last)
	}
	return nil
}
