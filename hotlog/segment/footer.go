package segment

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"sort"

	"github.com/logcore/logcore"
)

// Point is one entry of the sparse index: where a frame begins, and what is needed
// to check it without the frames before.
type Point struct {
	LSN    logcore.LSN
	Time   logcore.HLC // the highest time up to and with LSN
	Offset int64       // of the frame in the file
	Prev   uint32      // checksum of the entry before
}

// Summary is what a footer says of its segment; while the segment is open it grows
// with Add. It is a function of the entries alone, so every replica and every
// batching comes to the same bytes.
type Summary struct {
	ID           ID
	Prev         uint32      // checksum before First
	Last         logcore.LSN // First-1 when empty
	Sum          uint32      // checksum of Last, Prev when empty
	FirstTime    logcore.HLC // the first that is not 0
	LastTime     logcore.HLC // the highest
	Entries      uint64
	PayloadBytes uint64
	End          int64 // file offset behind the last frame
	Points       []Point

	// Only a Builder fills these.
	DigestKind DigestKind // 0 = none was computed
	Digest     [DigestBytes]byte
	LogsKept   bool       // Logs lists every log that has entries here
	Logs       []LogRange // by log id
}

// DigestKind says what a footer's digest is of.
type DigestKind uint32

// The digests. A number 2 is not given out: test vectors use it for one that nobody knows.
const (
	DigestNone   DigestKind = 0 // not computed
	DigestFrames DigestKind = 1 // SHA-256 of all frames; written by early builds
	DigestSums   DigestKind = 3 // SHA-256 of the frames' checksums, 4 bytes each, in order
)

// NewSummary returns the summary of a segment without entries.
func NewSummary(h Header) Summary {
	return Summary{ID: h.ID, Prev: h.Prev, Last: h.ID.First - 1, Sum: h.Prev, End: FramesOffset}
}

// Add takes in the entry whose frame lies at s.End.
func (s *Summary) Add(e *logcore.Entry, sum uint32) {
	if s.FirstTime == 0 {
		s.FirstTime = e.Time
	}
	s.LastTime = max(s.LastTime, e.Time)
	if n := len(s.Points); n == 0 || stride(s.End) > stride(s.Points[n-1].Offset) {
		s.Points = append(s.Points, Point{LSN: e.LSN, Time: s.LastTime, Offset: s.End, Prev: s.Sum})
	}
	s.Last, s.Sum = e.LSN, sum
	s.Entries++
	s.PayloadBytes += uint64(len(e.Payload))
	s.End += FrameBytes(len(e.Payload))
}

func stride(off int64) int64 { return (off - FramesOffset) / IndexStride }

// Seek returns the last point at or before lsn. Points must not be empty and lsn
// not below the first.
func Seek(points []Point, lsn logcore.LSN) Point {
	i := sort.Search(len(points), func(i int) bool { return points[i].LSN > lsn })
	return points[max(i-1, 0)]
}

// SeekTime returns the last point before the first entry whose time is t or later, or
// the first point. Points must not be empty.
func SeekTime(points []Point, t logcore.HLC) Point {
	i := sort.Search(len(points), func(i int) bool { return points[i].Time >= t })
	return points[max(i-1, 0)]
}

// FooterBytes is the size of the footer of s.
func (s *Summary) FooterBytes() int { return footerBytes(len(s.Points), len(s.Logs)) }

func footerBytes(points, logs int) int {
	return ftrFixed + points*IndexPointBytes + logs*LogRangeBytes + ftrTail
}

// AppendFooter appends the footer of a sealed segment; s comes from a Builder.
func (s *Summary) AppendFooter(dst []byte) []byte {
	start, size := len(dst), s.FooterBytes()
	dst = append(dst, make([]byte, size)...)
	b := dst[start:]
	putPreamble(b, footerMagic, size)
	le.PutUint32(b[ftrShard:], uint32(s.ID.Shard))
	le.PutUint32(b[ftrPrev:], s.Prev)
	le.PutUint64(b[ftrFirst:], uint64(s.ID.First))
	le.PutUint64(b[ftrLast:], uint64(s.Last))
	le.PutUint64(b[ftrFirstTime:], uint64(s.FirstTime))
	le.PutUint64(b[ftrLastTime:], uint64(s.LastTime))
	le.PutUint64(b[ftrEntries:], s.Entries)
	le.PutUint64(b[ftrFrameBytes:], uint64(s.End-FramesOffset))
	le.PutUint64(b[ftrPayload:], s.PayloadBytes)
	le.PutUint32(b[ftrSum:], s.Sum)
	le.PutUint32(b[ftrPoints:], uint32(len(s.Points)))
	for i, p := range s.Points {
		q := b[ftrFixed+i*IndexPointBytes:]
		le.PutUint64(q[ptLSN:], uint64(p.LSN))
		le.PutUint64(q[ptTime:], uint64(p.Time))
		le.PutUint32(q[ptOffset:], uint32(p.Offset))
		le.PutUint32(q[ptPrev:], p.Prev)
	}
	le.PutUint32(b[ftrDigestKind:], uint32(cmp.Or(s.DigestKind, DigestSums)))
	copy(b[ftrDigest:], s.Digest[:])
	le.PutUint32(b[ftrLogs:], logsNotKept)
	if s.LogsKept {
		le.PutUint32(b[ftrLogs:], uint32(len(s.Logs)))
		putLogs(b[ftrFixed+len(s.Points)*IndexPointBytes:], s.Logs)
	}
	le.PutUint32(b[size-ftrTail:], crc32.Checksum(b[:size-ftrTail], castagnoli))
	return dst
}

// FooterSize reads how long the footer that begins with b (at least 32 bytes) is,
// bounded by what a segment can hold.
func FooterSize(b []byte) (int, error) {
	if len(b) < preBytes {
		return 0, damage("footer: %d bytes", len(b))
	}
	length, err := checkPreamble(b, "segment footer", footerMagic, footerFlagsKnown)
	if err != nil {
		return 0, err
	}
	if length < footerBytes(1, 0) || length > footerBytes(SegmentBytesMax/IndexStride+1, logsMax) {
		return 0, damage("footer: length is %d", length)
	}
	return length, nil
}

// DecodeFooter checks and decodes a footer; b may be longer. The error wraps
// logcore.ErrCorrupt or logcore.ErrUnsupportedVersion.
func DecodeFooter(b []byte) (Summary, error) {
	var s Summary
	size, err := FooterSize(b)
	if err != nil {
		return s, err
	}
	if len(b) < size {
		return s, damage("footer: %d bytes, want %d", len(b), size)
	}
	b = b[:size]
	if got, want := crc32.Checksum(b[:size-ftrTail], castagnoli), le.Uint32(b[size-ftrTail:]); got != want {
		return s, damage("footer checksum is %08x, stored %08x", got, want)
	}
	if !allZero(b[size-ftrTail+4:]) {
		return s, damage("footer: padding is not zero")
	}
	if kind := DigestKind(le.Uint32(b[ftrDigestKind:])); kind != DigestFrames && kind != DigestSums {
		return s, fmt.Errorf("%w: segment footer has a digest of kind %d, which this build does not know: use a newer build", logcore.ErrUnsupportedVersion, kind)
	}
	n, logs := int64(le.Uint32(b[ftrPoints:])), int64(le.Uint32(b[ftrLogs:]))
	kept := logs != logsNotKept
	if !kept {
		logs = 0
	}
	if ftrFixed+n*IndexPointBytes+logs*LogRangeBytes+ftrTail != int64(size) {
		return s, damage("footer: %d points and %d log ranges in %d bytes", n, logs, size)
	}
	s = Summary{
		ID:           ID{Shard: logcore.ShardID(le.Uint32(b[ftrShard:])), First: logcore.LSN(le.Uint64(b[ftrFirst:]))},
		Prev:         le.Uint32(b[ftrPrev:]),
		Last:         logcore.LSN(le.Uint64(b[ftrLast:])),
		Sum:          le.Uint32(b[ftrSum:]),
		FirstTime:    logcore.HLC(le.Uint64(b[ftrFirstTime:])),
		LastTime:     logcore.HLC(le.Uint64(b[ftrLastTime:])),
		Entries:      le.Uint64(b[ftrEntries:]),
		PayloadBytes: le.Uint64(b[ftrPayload:]),
		End:          FramesOffset + int64(le.Uint64(b[ftrFrameBytes:])),
		Points:       decodePoints(b[ftrFixed:], int(n)),
		DigestKind:   DigestKind(le.Uint32(b[ftrDigestKind:])),
		Digest:       [DigestBytes]byte(b[ftrDigest:]),
		LogsKept:     kept,
		Logs:         decodeLogs(b[ftrFixed+n*IndexPointBytes:], int(logs)),
	}
	return s, s.validate()
}

func decodePoints(b []byte, n int) []Point {
	points := make([]Point, n)
	for i := range points {
		q := b[i*IndexPointBytes:]
		points[i] = Point{
			LSN:    logcore.LSN(le.Uint64(q[ptLSN:])),
			Time:   logcore.HLC(le.Uint64(q[ptTime:])),
			Offset: int64(le.Uint32(q[ptOffset:])),
			Prev:   le.Uint32(q[ptPrev:]),
		}
	}
	return points
}

// validate refuses an intact footer that makes no sense.
func (s *Summary) validate() error {
	if s.ID.First == 0 || s.Last < s.ID.First || s.Entries != uint64(s.Last-s.ID.First)+1 {
		return damage("footer: LSNs %d to %d, %d entries", s.ID.First, s.Last, s.Entries)
	}
	if s.End <= FramesOffset || s.End > SegmentBytesMax || len(s.Points) == 0 {
		return damage("footer: frames end at %d, %d points", s.End, len(s.Points))
	}
	for i, p := range s.Points {
		if i == 0 && (p.LSN != s.ID.First || p.Offset != FramesOffset || p.Prev != s.Prev) ||
			i > 0 && (p.LSN <= s.Points[i-1].LSN || p.Offset <= s.Points[i-1].Offset) || p.LSN > s.Last || p.Offset >= s.End {
			return damage("footer: index point %d is out of order", i)
		}
	}
	return s.validateLogs()
}
