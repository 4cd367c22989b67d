package hotlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// First returns the LSN of the oldest entry kept; Last()+1 when the log is empty.
func (l *Log) First() logcore.LSN {
	view := *l.view.Load()
	if len(view) == 0 {
		return l.Durable() + 1
	}
	return view[0].header.ID.First
}

// Entries returns entries from lo on, below hi: at least one, and no more than fit
// into bytesMax (payload plus 60 bytes each). hi may be beyond what is durable; lo
// may not (a LagError), nor be below First (logcore.ErrTrimmed). Payloads may be
// kept but must not be changed. Entries that are not in memory are read from the
// medium, and every byte is checked: damage is a CorruptionError. When the process has
// run out of file descriptors the error wraps logcore.ErrOverloaded: try again.
func (l *Log) Entries(lo, hi logcore.LSN, bytesMax int) ([]logcore.Entry, error) {
	if lo >= hi {
		return nil, fmt.Errorf("%w: hotlog: read of [%d, %d)", logcore.ErrInvalid, lo, hi)
	}
	durable := l.Durable()
	if err := l.readable(lo, durable); err != nil {
		return nil, err
	}
	if runs := l.cached(lo, hi); len(runs) > 0 {
		return decodeRuns(runs, bytesMax), nil
	}
	return l.readEntries(lo, min(hi, durable+1), bytesMax)
}

// cached returns what the cache holds of [lo, hi) from lo on, as far as it is durable now:
// since the caller looked, the tail may have been truncated and others appended.
func (l *Log) cached(lo, hi logcore.LSN) []run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cache.runs(lo, min(hi, l.Durable()+1))
}

// readable checks that the log is open and lsn neither trimmed nor ahead of what is durable.
func (l *Log) readable(lsn, durable logcore.LSN) error {
	view := *l.view.Load()
	if len(view) == 0 {
		return fmt.Errorf("hotlog: %s: %w", l.dir.Path(), logcore.ErrClosed)
	}
	if first := view[0].header.ID.First; lsn < first {
		return fmt.Errorf("%w: hotlog: LSN %d, the oldest kept is %d", logcore.ErrTrimmed, lsn, first)
	}
	if lsn > durable {
		return &logcore.LagError{Asked: lsn, Available: durable}
	}
	return nil
}

// decodeRuns decodes cached frames up to bytesMax, at least one.
func decodeRuns(runs []run, bytesMax int) []logcore.Entry {
	n := 0
	for _, r := range runs {
		n += len(r.offs)
	}
	out := make([]logcore.Entry, 0, min(n, 1+max(bytesMax, 0)/segment.FrameHeaderBytes))
	var e logcore.Entry
	for _, r := range runs {
		for _, off := range r.offs {
			segment.TrustedFrame(&e, r.buf[off:])
			if bytesMax -= len(e.Payload) + segment.FrameHeaderBytes; bytesMax < 0 && len(out) > 0 {
				return out
			}
			out = append(out, e)
		}
	}
	return out
}

// readEntries is Entries from the medium.
func (l *Log) readEntries(lo, hi logcore.LSN, bytesMax int) (out []logcore.Entry, err error) {
	l.structMu.RLock()
	defer l.structMu.RUnlock()
	for lo < hi {
		s, c, points, err := l.find(lo)
		if err != nil {
			return nil, err
		}
		frames := segment.NewReader(s.f, s.header.ID, segment.Seek(points, lo), c.end).Keep()
		for lo < min(hi, c.last+1) {
			out = append(out, logcore.Entry{})
			e := &out[len(out)-1]
			if _, err := frames.NextInto(e); err != nil {
				return nil, l.readError(s, frames, err)
			}
			if e.LSN < lo {
				out = out[:len(out)-1]
				continue
			}
			if bytesMax -= len(e.Payload) + segment.FrameHeaderBytes; bytesMax < 0 && len(out) > 1 {
				return out[:len(out)-1], nil
			}
			lo++
		}
	}
	return out, nil
}

// find returns the segment that holds lsn, how far it is durable, and its index;
// structMu is held.
func (l *Log) find(lsn logcore.LSN) (*segfile, committed, []segment.Point, error) {
	view := *l.view.Load()
	i := sort.Search(len(view), func(i int) bool { return view[i].header.ID.First > lsn }) - 1
	if i < 0 {
		return nil, committed{}, nil, l.readable(lsn, l.Durable())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := view[i]
	if lsn > s.committed.last {
		return nil, committed{}, nil, &logcore.LagError{Asked: lsn, Available: s.committed.last}
	}
	return s, s.committed, s.sum.Points, nil
}

// readError gives an error of a Reader its place, and counts damage. The end of the
// frames before the durable end is damage too.
func (l *Log) readError(s *segfile, r *segment.Reader, err error) error {
	if errors.Is(err, io.EOF) {
		err = &segment.DamageError{Reason: "entries end early"}
	}
	return l.damaged(s, segment.PlaceOf(err, r.Offset(), r.NextLSN()))
}

// Term returns the term of a durable entry, or of the one before First (0 when that
// is not known).
func (l *Log) Term(lsn logcore.LSN) (uint64, error) {
	if view := *l.view.Load(); len(view) > 0 && lsn+1 == view[0].header.ID.First {
		return view[0].header.PrevTerm, nil
	}
	entries, err := l.Entries(lsn, lsn+1, 0)
	if err != nil {
		return 0, err
	}
	return entries[0].Term, nil
}

// WaitDurable returns nil once Durable() >= lsn, ctx's error when that ends first,
// or the log's when it will not write any more.
func (l *Log) WaitDurable(ctx context.Context, lsn logcore.LSN) error {
	return l.await(ctx, func() (bool, error) {
		if l.Durable() >= lsn {
			return true, nil
		}
		err := l.stateErr()
		return err != nil, err
	})
}

// SegmentInfo describes one segment, as far as it is durable.
type SegmentInfo struct {
	ID          segment.ID
	First, Last logcore.LSN // Last = First-1 when empty
	Sealed      bool
	Bytes       int64 // of its frames
}

// Segments returns the segments, oldest first.
func (l *Log) Segments() []SegmentInfo {
	view := *l.view.Load()
	out := make([]SegmentInfo, len(view))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range view {
		out[i] = SegmentInfo{ID: s.header.ID, First: s.header.ID.First, Last: s.committed.last,
			Sealed: s.committed.sealed, Bytes: s.committed.end - segment.FramesOffset}
	}
	return out
}

// Pressure returns how many bytes entries take and how many they may take before
// appends must be refused: what was allocated, what stands ready, and what is free
// above the reserve. Of a segment that has not been begun, and of the open one, only
// what lies before the size at which it is sealed counts: the last eighth belongs to the
// entries that free some room (SEAL, catalog, checkpoint) and to the footer.
func (l *Log) Pressure() (used, limit int64) {
	free, err := l.dir.Free()
	if err != nil {
		free = 0
	}
	usable := l.opts.sealAtBytes() - segment.FramesOffset // by entries, of a fresh segment
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range *l.view.Load() {
		if s.sealed {
			used += s.f.Size()
			limit += s.f.Size()
			continue
		}
		used += min(s.sum.End, l.opts.sealAtBytes())
		limit += l.opts.sealAtBytes()
	}
	ready := int64(len(l.pool)) + max(free-l.opts.DiskReserveBytes, 0)/l.opts.SegmentBytes
	return used, limit + ready*usable
}
