package chaos

import (
	"context"
	"fmt"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// source is a hot tier whose log was written beforehand: its entries become committed as
// they are revealed. What the archive lets go of is gone at once.
type source struct {
	log   *hotlog.Log
	plant string

	mu        sync.Mutex
	committed logcore.LSN        // guarded by mu
	changed   chan struct{}      // guarded by mu: closed and replaced when committed rises
	dropped   logcore.LSN        // guarded by mu: everything up to here is gone
	early     string             // guarded by mu: what was dropped before the archive covered it
	covered   func() logcore.LSN // guarded by mu
}

var _ tiering.Source = (*source)(nil)

func newSource(log *hotlog.Log, plant string) *source {
	return &source{log: log, plant: plant, changed: make(chan struct{})}
}

// drop lets go of everything up to an LSN, and notes when that is too early: nothing leaves
// the hot tier until a manifest on a majority covers it. mu is held.
func (s *source) drop(upTo logcore.LSN) {
	if upTo <= s.dropped {
		return
	}
	if covered := s.covered(); upTo > covered && s.early == "" {
		s.early = fmt.Sprintf("the hot tier dropped everything up to LSN %d when the archive covered %d", upTo, covered)
	}
	s.dropped = upTo
}

// watch tells whose word it is that something is covered.
func (s *source) watch(covered func() logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.covered = covered
}

// tooEarly says what was dropped before it was covered; empty = nothing.
func (s *source) tooEarly() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.early
}

// reveal commits entries up to an LSN.
func (s *source) reveal(to logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to = min(to, s.log.Durable()); to > s.committed {
		s.committed = to
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// after returns the LSN that lies so many bytes after what is committed.
func (s *source) after(bytes int64) logcore.LSN {
	lsn := s.Committed()
	for lsn < s.log.Durable() && bytes > 0 {
		entries, err := s.log.Entries(lsn+1, lsn+2, 1)
		if err != nil {
			break
		}
		bytes -= segment.FrameBytes(len(entries[0].Payload))
		lsn++
	}
	return lsn
}

// bytes returns how many bytes of frames are committed, whole segments counted.
func (s *source) bytes() (n int64) {
	committed := s.Committed()
	for _, seg := range s.log.Segments() {
		if seg.First <= committed {
			n += seg.Bytes
		}
	}
	return n
}

func (s *source) Committed() logcore.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

func (s *source) Last() logcore.LSN { return s.Committed() }

func (s *source) WaitCommitted(ctx context.Context, lsn logcore.LSN) error {
	for {
		s.mu.Lock()
		done, changed := s.committed >= lsn, s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *source) Segments() []tiering.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []tiering.Segment
	for _, seg := range s.log.Segments() {
		if seg.Last <= s.dropped || seg.First > s.committed || seg.Last < seg.First {
			continue
		}
		out = append(out, tiering.Segment{First: seg.First, Last: min(seg.Last, s.committed), Sealed: seg.Sealed && seg.Last <= s.committed, Bytes: seg.Bytes})
	}
	return out
}

func (s *source) ReadSpan(ctx context.Context, first, last logcore.LSN, bytesMax int64) (tiering.Span, error) {
	if err := ctx.Err(); err != nil {
		return tiering.Span{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first <= s.dropped {
		return tiering.Span{}, logcore.ErrTrimmed
	}
	last = min(last, s.committed)
	for _, seg := range s.log.Segments() {
		if first >= seg.First && first <= seg.Last {
			last = min(last, seg.Last)
		}
	}
	span, err := s.fitting(first, last, bytesMax)
	if err == nil && s.plant == PlantTrimFirst {
		s.drop(span.Last)
	}
	return span, err
}

// fitting returns the longest span that fits.
func (s *source) fitting(first, last logcore.LSN, bytesMax int64) (tiering.Span, error) {
	for {
		span, err := s.log.Span(first, last)
		if err != nil {
			return tiering.Span{}, err
		}
		if int64(len(span.Frames)) <= bytesMax || last == first {
			return recovery.ToArchive(span), nil
		}
		last = first + (last-first)/2
	}
}

func (s *source) Trim(_ context.Context, upTo logcore.LSN) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.log.Segments() {
		// A hot log always has entries after a sealed segment: its last one stays.
		if seg.Sealed && seg.Last <= upTo && seg.Last < s.committed {
			s.drop(seg.Last)
		}
	}
	return nil
}

func (s *source) Pressure() (used, limit int64) { return 0, 0 }
