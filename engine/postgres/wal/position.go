package wal

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
)

// Position is a byte position in the log, PostgreSQL's own LSN. It is not a
// logcore.LSN: a log entry carries it as its engine position.
type Position uint64

// String returns the position as PostgreSQL writes it, e.g. 16/B374D848.
func (p Position) String() string { return fmt.Sprintf("%X/%X", uint32(p>>32), uint32(p)) }

// MarshalText implements encoding.TextMarshaler: the position as PostgreSQL writes it.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (p *Position) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosition(string(b))
	return err
}

// ParsePosition is the inverse of String. Anything else is logcore.ErrInvalid.
func ParsePosition(s string) (Position, error) {
	high, low, ok := strings.Cut(s, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%w: %q is no WAL position; one looks like 16/B374D848", logcore.ErrInvalid, s)
	}
	return Position(h<<32 | l), nil
}

const maxAlign = 8

// aligned returns the first position at or behind p where a record can begin.
func (p Position) aligned() Position { return (p + maxAlign - 1) &^ (maxAlign - 1) }

// Timeline numbers the history that a log belongs to; a server that is promoted, or
// starts from a point in the past, takes the next.
type Timeline uint32

// The segment sizes that PostgreSQL allows, in bytes.
const (
	SegmentBytesMin     = 1 << 20
	SegmentBytesMax     = 1 << 30
	SegmentBytesDefault = 16 << 20
)

// SegmentName returns the name of the segment file that holds p.
func SegmentName(t Timeline, p Position, segmentBytes uint32) string {
	n := uint64(p) / uint64(segmentBytes)
	perID := uint64(1<<32) / uint64(segmentBytes)
	return fmt.Sprintf("%08X%08X%08X", uint32(t), n/perID, n%perID)
}

// ParseSegmentName is the inverse of SegmentName: it returns where the segment begins. ok is false for other files.
func ParseSegmentName(name string, segmentBytes uint32) (t Timeline, start Position, ok bool) {
	if len(name) != 24 || strings.ToUpper(name) != name {
		return 0, 0, false
	}
	tli, err1 := strconv.ParseUint(name[:8], 16, 32)
	id, err2 := strconv.ParseUint(name[8:16], 16, 32)
	seg, err3 := strconv.ParseUint(name[16:], 16, 32)
	perID := uint64(1<<32) / uint64(segmentBytes)
	if err1 != nil || err2 != nil || err3 != nil || seg >= perID || tli == 0 {
		return 0, 0, false
	}
	return Timeline(tli), Position((id*perID + seg) * uint64(segmentBytes)), true
}
