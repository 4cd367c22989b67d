package roles

import (
	"context"
	"sync/atomic"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/tiering"
)

// hotSource is a shard's hot tier as the archiver needs it.
type hotSource struct {
	group *replication.Group
	// trimmable is the LSN up to which the archive said that the hot tier may let go.
	trimmable atomic.Uint64
}

var _ tiering.Source = (*hotSource)(nil)

// Committed returns the newest committed LSN.
func (s *hotSource) Committed() logcore.LSN { return s.group.Committed() }

// Last returns the newest durable LSN.
func (s *hotSource) Last() logcore.LSN { return s.group.HotLog().Durable() }

// WaitCommitted blocks until lsn is committed.
func (s *hotSource) WaitCommitted(ctx context.Context, lsn logcore.LSN) error {
	for {
		changed := s.group.Changed()
		if s.group.Committed() >= lsn {
			return nil
		}
		if err := s.group.Err(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Segments returns the segments with committed entries, cut at what is committed.
func (s *hotSource) Segments() []tiering.Segment {
	committed := s.group.Committed()
	var out []tiering.Segment
	for _, seg := range s.group.HotLog().Segments() {
		if seg.Last < seg.First || seg.First > committed {
			continue
		}
		out = append(out, tiering.Segment{First: seg.First, Last: min(seg.Last, committed), Sealed: seg.Sealed && seg.Last <= committed, Bytes: seg.Bytes})
	}
	return out
}

// ReadSpan returns whole frames from first on, at least one, that fit into bytesMax.
func (s *hotSource) ReadSpan(ctx context.Context, first, last logcore.LSN, bytesMax int64) (tiering.Span, error) {
	if err := ctx.Err(); err != nil {
		return tiering.Span{}, err
	}
	for _, seg := range s.group.HotLog().Segments() {
		if first >= seg.First && first <= seg.Last {
			last = min(last, seg.Last)
		}
	}
	last, err := s.fits(first, last, bytesMax)
	if err != nil {
		return tiering.Span{}, err
	}
	span, err := s.group.HotLog().Span(first, last)
	return recovery.ToArchive(span), err
}

// readBytes is how much is looked at in one go to see what fits.
const readBytes = 4 << 20

// fits returns the last LSN of [first, last] up to which the frames fit into bytesMax.
func (s *hotSource) fits(first, last logcore.LSN, bytesMax int64) (logcore.LSN, error) {
	fit := first
	for lsn := first; lsn <= last; {
		entries, err := s.group.HotLog().Entries(lsn, last+1, readBytes)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if bytesMax -= segment.FrameBytes(len(e.Payload)); bytesMax < 0 && e.LSN > first {
				return fit, nil
			}
			fit = e.LSN
		}
		lsn = fit + 1
	}
	return fit, nil
}

// Trim notes what the archive is sure of; the log service decides what of it goes.
func (s *hotSource) Trim(_ context.Context, upTo logcore.LSN) error {
	s.trimmable.Store(uint64(upTo))
	return nil
}

// Pressure returns the hot tier's use of the disk.
func (s *hotSource) Pressure() (used, limit int64) { return s.group.HotLog().Pressure() }
