package tieringbench

import (
	"context"
	"hash/crc32"
	"sync"
	"syscall"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering"
)

// pieceBytes is one entry of a source: the archive never looks into entries, so they are
// cut without regard to the log's own.
const pieceBytes = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// source is a hot tier in memory, outside of the heap: a log repeated as sealed segments.
type source struct {
	arena    []byte
	pieces   [][]byte
	sums     []uint32 // of piece i at i+1
	segments []tiering.Segment
	mu       sync.Mutex
	trimmed  logcore.LSN // guarded by mu
}

var _ tiering.Source = (*source)(nil)

// newSource repeats a log until there are bytes of it, in segments of segmentBytes.
func newSource(log []byte, bytes, segmentBytes int) (*source, error) {
	arena, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	for at := 0; at < bytes; {
		at += copy(arena[at:], log)
	}
	s := &source{arena: arena, sums: []uint32{0}}
	for at := 0; at < bytes; at += pieceBytes {
		p := arena[at:min(at+pieceBytes, bytes)]
		s.pieces = append(s.pieces, p)
		s.sums = append(s.sums, crc32.Update(s.sums[len(s.sums)-1], castagnoli, p))
		lsn := logcore.LSN(len(s.pieces))
		if at%segmentBytes < pieceBytes {
			s.segments = append(s.segments, tiering.Segment{First: lsn, Sealed: true})
		}
		seg := &s.segments[len(s.segments)-1]
		seg.Last, seg.Bytes = lsn, seg.Bytes+int64(len(p))
	}
	return s, nil
}

func (s *source) close() error { return syscall.Munmap(s.arena) }

// reset has everything there again.
func (s *source) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trimmed = 0
}

// Committed returns the last piece.
func (s *source) Committed() logcore.LSN { return logcore.LSN(len(s.pieces)) }

// Last returns the last piece.
func (s *source) Last() logcore.LSN { return s.Committed() }

// WaitCommitted returns once lsn is committed: everything is.
func (s *source) WaitCommitted(ctx context.Context, lsn logcore.LSN) error {
	if lsn <= s.Committed() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// Segments returns the segments that were not trimmed.
func (s *source) Segments() []tiering.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []tiering.Segment
	for _, seg := range s.segments {
		if seg.Last > s.trimmed {
			left = append(left, seg)
		}
	}
	return left
}

// ReadSpan returns pieces as they lie in memory: reading costs nothing.
func (s *source) ReadSpan(_ context.Context, first, last logcore.LSN, bytesMax int64) (tiering.Span, error) {
	for _, seg := range s.segments {
		if first < seg.First || first > seg.Last {
			continue
		}
		end := min(last, seg.Last, first+logcore.LSN(max(bytesMax/pieceBytes, 1))-1)
		from := (int(first) - 1) * pieceBytes
		to := min(int(end)*pieceBytes, len(s.arena))
		return tiering.Span{SegmentFirst: seg.First, First: first, Last: end, FirstTime: logcore.HLC(1<<40 + uint64(first)), LastTime: logcore.HLC(1<<40 + uint64(end)),
			Prev: s.sums[first-1], Sum: s.sums[end], Sealed: end == seg.Last, Frames: s.arena[from:to:to]}, nil
	}
	return tiering.Span{}, logcore.ErrTrimmed
}

// Trim lets segments go.
func (s *source) Trim(_ context.Context, upTo logcore.LSN) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trimmed = max(s.trimmed, upTo)
	return nil
}

// Pressure is none.
func (s *source) Pressure() (used, limit int64) { return 0, 0 }
