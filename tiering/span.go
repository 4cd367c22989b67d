package tiering

import (
	"context"
	"fmt"

	"github.com/logcore/logcore"
)

// Span is a contiguous range of entries inside one segment, as the raw frames that
// the hot tier wrote. This package never looks inside the frames.
type Span struct {
	Shard               logcore.ShardID
	SegmentFirst        logcore.LSN // first LSN of the segment the frames belong to
	First, Last         logcore.LSN // both included
	FirstTime, LastTime logcore.HLC
	Prev, Sum           uint32 // checksum of the entry before First, in the segment before when First begins one, and of Last
	Sealed              bool   // Last is the last entry of a sealed segment
	Frames              []byte
}

// validate checks what the frames' opacity leaves to check.
func (s Span) validate() error {
	switch {
	case s.First == 0 || s.SegmentFirst == 0 || s.SegmentFirst > s.First || s.First > s.Last:
		return fmt.Errorf("%w: span [%d,%d] of segment %d: want 0 < segment <= first <= last", logcore.ErrInvalid, s.First, s.Last, s.SegmentFirst)
	case s.LastTime < s.FirstTime:
		return fmt.Errorf("%w: span [%d,%d]: last time %v is before first time %v", logcore.ErrInvalid, s.First, s.Last, s.LastTime, s.FirstTime)
	case len(s.Frames) == 0 || len(s.Frames) > rawBytesMax:
		return fmt.Errorf("%w: span [%d,%d]: %d bytes of frames: want 1 to %d", logcore.ErrInvalid, s.First, s.Last, len(s.Frames), rawBytesMax)
	}
	return nil
}

// Segment describes a segment of the hot tier.
type Segment struct {
	First  logcore.LSN
	Last   logcore.LSN // last committed entry in it
	Sealed bool        // Last is its last entry for ever
	Bytes  int64       // of frames, about; only for pacing
}

// Source is the hot tier as the archiver needs it. All methods may be called
// concurrently.
type Source interface {
	// Committed returns the newest LSN that is known to be committed and durable; 0 when
	// none. It never falls.
	Committed() logcore.LSN
	// Last returns the newest durable LSN, known to be committed or not; 0 when none.
	Last() logcore.LSN
	// WaitCommitted blocks until Committed() >= lsn or ctx is done.
	WaitCommitted(ctx context.Context, lsn logcore.LSN) error
	// Segments returns the segments that hold committed entries, oldest first.
	Segments() []Segment
	// ReadSpan returns a span that begins at first and ends at last or before, inside one
	// segment: as many whole entries as fit in bytesMax, at least one. last is at most
	// Last(). Span.Sealed is set
	// only when the span ends with the last entry of a sealed segment. The frames are
	// verified against their checksums; they stay unchanged until the archiver is done.
	ReadSpan(ctx context.Context, first, last logcore.LSN, bytesMax int64) (Span, error)
	// Trim tells the hot tier that everything up to and including upTo is archived and may
	// go. It may keep it longer. A call replaces the one before: a lower LSN says that
	// fragments have vanished since, and that what is still there must stay.
	Trim(ctx context.Context, upTo logcore.LSN) error
	// Pressure returns the hot tier's disk use and its limit in bytes; limit 0 = none.
	Pressure() (used, limit int64)
}
