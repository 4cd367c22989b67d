package hotlog

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// Span returns the raw frames of [first, last], which must lie in one segment and be
// durable. Every frame is checked on the way. The caller owns the span.
func (l *Log) Span(first, last logcore.LSN) (segment.Span, error) {
	if err := errors.Join(l.readable(first, l.Durable()), l.readable(last, l.Durable())); err != nil {
		return segment.Span{}, err
	}
	l.structMu.RLock()
	defer l.structMu.RUnlock()
	s, c, points, err := l.find(first)
	if err != nil {
		return segment.Span{}, err
	}
	if last < first || last > c.last {
		return segment.Span{}, fmt.Errorf("%w: hotlog: span of LSNs %d to %d, but the segment holds %d to %d", logcore.ErrInvalid, first, last, s.header.ID.First, c.last)
	}
	span := segment.Span{ID: s.header.ID, First: first, Last: last, Sealed: c.sealed && last == c.last}
	frames := segment.NewReader(s.f, s.header.ID, segment.Seek(points, first), c.end)
	var from, to int64
	for frames.NextLSN() <= last {
		at, prev := frames.Offset(), frames.Prev()
		e, sum, err := frames.Next()
		if err != nil {
			return segment.Span{}, l.readError(s, frames, err)
		}
		if e.LSN < first {
			continue
		}
		if e.LSN == first {
			span.Prev, from = prev, at
		}
		if span.FirstTime == 0 {
			span.FirstTime = e.Time
		}
		span.LastTime = max(span.LastTime, e.Time)
		span.Sum, to = sum, frames.Offset()
	}
	span.Frames = make([]byte, to-from)
	if n, err := s.f.ReadAt(span.Frames, from); n < len(span.Frames) {
		return segment.Span{}, fmt.Errorf("hotlog: read %s/%s: %w", l.dir.Path(), s.name, err)
	}
	return span, nil
}
