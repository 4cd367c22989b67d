package hotlog

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// StreamOptions says what to stream.
type StreamOptions struct {
	// From is the first LSN; below First the stream fails with logcore.ErrTrimmed.
	From logcore.LSN
	// To is the last LSN; 0 = what is durable when the stream begins. Beyond that the
	// stream fails with a LagError.
	To logcore.LSN
	// Log, when not 0, leaves out the entries of other logs and of none; what the
	// footers exclude is not read. It needs Options.LogOf.
	Log logcore.LogID
}

// Stream returns entries in LSN order without copying them: a payload is valid until
// the next iteration and must not be changed. Entries that are not in memory are read
// from the medium and checked; it ends at the first error. A trim or a truncation is
// not held up: the stream then fails where it has come to, or goes on with what stands there.
func (l *Log) Stream(o StreamOptions) iter.Seq2[logcore.Entry, error] {
	return func(yield func(logcore.Entry, error) bool) {
		if o.Log != 0 && l.opts.LogOf == nil {
			yield(logcore.Entry{}, fmt.Errorf("%w: hotlog: stream of log %d, but the log was opened without LogOf", logcore.ErrInvalid, o.Log))
			return
		}
		to := o.To
		if to == 0 {
			to = l.Durable()
		}
		for at := o.From; at <= to; {
			if o.Log != 0 {
				if at = l.NextOf(at, to+1, o.Log); at > to {
					return
				}
			}
			next, err := l.streamFrom(at, to, o.Log, yield)
			if err != nil {
				yield(logcore.Entry{}, err)
				return
			}
			if next == 0 {
				return // the consumer has enough
			}
			at = next
		}
	}
}

// streamFrom hands out entries from at on, from the cache or of one segment, and returns
// the LSN to go on with, 0 when the consumer has enough.
func (l *Log) streamFrom(at, to logcore.LSN, log logcore.LogID, yield func(logcore.Entry, error) bool) (logcore.LSN, error) {
	if err := errors.Join(l.readable(at, l.Durable()), l.readable(to, l.Durable())); err != nil {
		return 0, err
	}
	var e logcore.Entry
	runs := l.cached(at, to+1)
	for _, r := range runs {
		for _, off := range r.offs {
			segment.TrustedFrame(&e, r.buf[off:])
			if at++; (log == 0 || l.opts.LogOf(e) == log) && !yield(e, nil) {
				return 0, nil
			}
		}
	}
	if len(runs) > 0 {
		return at, nil
	}
	s, src, c, points, err := l.locate(at)
	if err != nil {
		return 0, err
	}
	frames := segment.NewReader(src, s.header.ID, segment.Seek(points, at), c.end)
	for last := min(to, c.last); at <= last; {
		if _, err := frames.NextInto(&e); errors.Is(err, errGone) {
			return at, nil
		} else if err != nil {
			return 0, l.readError(s, frames, err)
		}
		if e.LSN < at {
			continue
		}
		if at++; (log == 0 || l.opts.LogOf(e) == log) && !yield(e, nil) {
			return 0, nil
		}
	}
	return at, nil
}

// locate is find, for a reader that does not hold structMu.
func (l *Log) locate(lsn logcore.LSN) (*segfile, segmentReader, committed, []segment.Point, error) {
	l.structMu.RLock()
	defer l.structMu.RUnlock()
	s, c, points, err := l.find(lsn)
	if err != nil {
		return nil, segmentReader{}, c, nil, err
	}
	src, _ := l.reader(s)
	return s, src, c, points, nil
}

// NextOf returns the first LSN in [lo, hi) that may hold an entry of one of the logs, as
// far as the footers of the sealed segments tell, and hi when there is none. It reads
// nothing.
func (l *Log) NextOf(lo, hi logcore.LSN, logs ...logcore.LogID) logcore.LSN {
	view := *l.view.Load()
	i := sort.Search(len(view), func(i int) bool { return view[i].header.ID.First > lo }) - 1
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range view[max(i, 0):] {
		at := max(lo, s.header.ID.First)
		if at >= hi || !s.finished {
			return min(at, hi)
		}
		if lo > s.sum.Last {
			continue
		}
		if from, ok := s.sum.MayHold(logs, lo); ok {
			return min(from, hi)
		}
	}
	return hi
}

// SeekTime returns the LSN of the first entry whose time is t or later, Durable()+1 when
// no durable entry is. When it is First(), earlier ones may have been trimmed.
func (l *Log) SeekTime(t logcore.HLC) (logcore.LSN, error) {
	durable, view := l.Durable(), *l.view.Load()
	if len(view) == 0 {
		return 0, l.readable(0, durable)
	}
	from := durable + 1
	l.mu.Lock()
	if i := slices.IndexFunc(view, func(s *segfile) bool { return s.sum.LastTime >= t }); i >= 0 {
		from = segment.SeekTime(view[i].sum.Points, t).LSN
	}
	l.mu.Unlock()
	for e, err := range l.Stream(StreamOptions{From: from, To: durable}) {
		var lag *logcore.LagError
		switch {
		case errors.Is(err, logcore.ErrTrimmed) || errors.As(err, &lag):
			return l.SeekTime(t) // what was there was trimmed or truncated meanwhile
		case err != nil:
			return 0, err
		case e.Time >= t:
			return e.LSN, nil
		}
	}
	return durable + 1, nil
}
