package segment

import (
	"cmp"
	"crypto/sha256"
	"hash"
	"io"
	"slices"

	"github.com/logcore/logcore"
)

// LogOf says which log an entry belongs to, 0 for none. It is a pure function of the
// entry: footers are compared byte for byte. It must not keep the payload.
type LogOf func(logcore.Entry) logcore.LogID

// LogRange is what a segment holds of one log.
type LogRange struct {
	Log          logcore.LogID
	First, Last  logcore.LSN // of its entries in the segment
	Entries      uint64
	PayloadBytes uint64
}

// A footer lists the logs of its segment unless they are so many that the list would
// be of no use: more than 16 and more than one for each 4 KiB of frames, or more than
// 16,384.
const (
	logsFree       = 16
	logStrideBytes = 4 << 10
	logsMax        = 16 << 10
)

// logsAllowed is how many logs the footer of a segment with so many bytes of frames lists.
func logsAllowed(frameBytes int64) int {
	return int(min(max(frameBytes/logStrideBytes, logsFree), logsMax))
}

// Builder makes the whole summary of a segment from all its frames, in order.
type Builder struct {
	sum    Summary
	logOf  LogOf
	logs   map[logcore.LogID]*LogRange // nil: not kept
	digest hash.Hash                   // nil: not wanted
	kind   DigestKind
}

// NewBuilder returns a builder for the segment with header h. Without logOf the ranges
// are not kept; with DigestNone no digest is computed.
func NewBuilder(h Header, logOf LogOf, digest DigestKind) *Builder {
	b := &Builder{sum: NewSummary(h), logOf: logOf, kind: digest}
	if logOf != nil {
		b.logs = map[logcore.LogID]*LogRange{}
	}
	if digest != DigestNone {
		b.digest = sha256.New()
	}
	return b
}

// Add takes in the next entry, its checksum and its raw frame.
func (b *Builder) Add(e *logcore.Entry, sum uint32, frame []byte) {
	b.sum.Add(e, sum)
	switch b.kind {
	case DigestFrames:
		b.digest.Write(frame)
	case DigestSums:
		b.digest.Write(frame[frmCRC : frmCRC+4])
	}
	if b.logs == nil {
		return
	}
	id := b.logOf(*e)
	if id == 0 {
		return
	}
	r := b.logs[id]
	if r == nil {
		r = &LogRange{Log: id, First: e.LSN}
		if b.logs[id] = r; len(b.logs) > logsMax {
			b.logs = nil // too many, whatever follows
		}
	}
	r.Last = e.LSN
	r.Entries++
	r.PayloadBytes += uint64(len(e.Payload))
}

// Summary returns the summary of what was added.
func (b *Builder) Summary() Summary {
	s := b.sum
	s.Points = slices.Clone(s.Points)
	if b.digest != nil {
		s.DigestKind = b.kind
		b.digest.Sum(s.Digest[:0])
	}
	if b.logs == nil || len(b.logs) > logsAllowed(s.End-FramesOffset) {
		return s
	}
	s.LogsKept = true
	for _, r := range b.logs {
		s.Logs = append(s.Logs, *r)
	}
	slices.SortFunc(s.Logs, func(a, b LogRange) int { return cmp.Compare(a.Log, b.Log) })
	return s
}

// Summarize reads and checks all frames of a sealed segment, from its header to the
// file offset end, and returns its whole summary. Damage is a CorruptionError.
func Summarize(src io.ReaderAt, h Header, end int64, logOf LogOf, digest DigestKind) (Summary, error) {
	b := NewBuilder(h, logOf, digest)
	frames := NewReader(src, h.ID, h.Start(), end)
	var e logcore.Entry
	for frames.Offset() < end {
		at := frames.Offset()
		sum, err := frames.NextInto(&e)
		if err != nil {
			return b.Summary(), PlaceOf(err, at, frames.NextLSN())
		}
		b.Add(&e, sum, frames.Raw())
	}
	return b.Summary(), nil
}

// MayHold reports whether the segment can hold an entry of one of the logs at or above
// lsn, and from where on: false only when the ranges exclude it.
func (s *Summary) MayHold(logs []logcore.LogID, lsn logcore.LSN) (logcore.LSN, bool) {
	if !s.LogsKept {
		return lsn, true
	}
	from, found := logcore.LSN(0), false
	for _, id := range logs {
		i, ok := slices.BinarySearchFunc(s.Logs, id, func(r LogRange, id logcore.LogID) int { return cmp.Compare(r.Log, id) })
		if !ok || s.Logs[i].Last < lsn {
			continue
		}
		if at := max(s.Logs[i].First, lsn); !found || at < from {
			from, found = at, true
		}
	}
	return from, found
}

func putLogs(b []byte, logs []LogRange) {
	for i, r := range logs {
		q := b[i*LogRangeBytes:]
		le.PutUint64(q[lrLog:], uint64(r.Log))
		le.PutUint64(q[lrFirst:], uint64(r.First))
		le.PutUint64(q[lrLast:], uint64(r.Last))
		le.PutUint64(q[lrEntries:], r.Entries)
		le.PutUint64(q[lrPayload:], r.PayloadBytes)
	}
}

func decodeLogs(b []byte, n int) []LogRange {
	logs := make([]LogRange, n)
	for i := range logs {
		q := b[i*LogRangeBytes:]
		logs[i] = LogRange{
			Log:          logcore.LogID(le.Uint64(q[lrLog:])),
			First:        logcore.LSN(le.Uint64(q[lrFirst:])),
			Last:         logcore.LSN(le.Uint64(q[lrLast:])),
			Entries:      le.Uint64(q[lrEntries:]),
			PayloadBytes: le.Uint64(q[lrPayload:]),
		}
	}
	return logs
}

func (s *Summary) validateLogs() error {
	for i, r := range s.Logs {
		if r.Log == 0 || i > 0 && r.Log <= s.Logs[i-1].Log || r.First < s.ID.First || r.Last > s.Last || r.First > r.Last ||
			r.Entries == 0 || r.Entries > uint64(r.Last-r.First)+1 || r.PayloadBytes > s.PayloadBytes {
			return damage("footer: range %d, of log %d, is out of order or of bounds", i, r.Log)
		}
	}
	if n := logsAllowed(s.End - FramesOffset); len(s.Logs) > n {
		return damage("footer: %d log ranges, at most %d are listed", len(s.Logs), n)
	}
	return nil
}
