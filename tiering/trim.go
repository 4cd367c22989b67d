package tiering

import (
	"context"
	"fmt"

	"github.com/logcore/logcore"
)

// Under pressure the hot tier trims what has k fragments; otherwise it waits for all.
const pressurePercent = 80

// trim tells the source how far it may drop its segments: the longest run of them that
// sealed objects cover, every fragment placed and found there; under disk pressure at
// least k. The state holds only what is committed on a majority of the targets and was
// verified there, so nothing is trimmed that is not archived.
func (a *Archiver) trim(ctx context.Context) error {
	upTo := a.trimmable(ctx, a.underPressure())
	a.mu.Lock()
	same := upTo == a.trimmed
	a.mu.Unlock()
	if same || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := a.step("trim"); err != nil {
		return err
	}
	if err := a.o.Source.Trim(ctx, upTo); err != nil {
		return fmt.Errorf("tiering: trim the hot tier up to %d: %w", upTo, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trimmed = upTo
	return nil
}

func (a *Archiver) underPressure() bool {
	used, limit := a.o.Source.Pressure()
	return limit > 0 && used >= limit/100*pressurePercent
}

// trimmable returns the last LSN of the last segment that may go, or the one before
// the first segment. A lower one than before says that fragments have vanished.
func (a *Archiver) trimmable(ctx context.Context, pressure bool) (upTo logcore.LSN) {
	s := a.state.Load()
	segments := a.o.Source.Segments()
	a.forgetVerified(segments)
	for _, seg := range segments {
		upTo = seg.First - 1
		if !seg.Sealed || !s.segmentComplete(seg.First) {
			return upTo
		}
		for _, o := range s.segmentObjects(seg.First) {
			if n := o.placed(); n < o.K || n < o.K+o.M && !pressure {
				return upTo
			}
		}
		if !a.verifySegment(ctx, s, seg.First, pressure) {
			return upTo
		}
	}
	if len(segments) > 0 {
		upTo = segments[len(segments)-1].Last
	}
	return upTo
}

// forgetVerified forgets the segments that the hot tier has let go of.
func (a *Archiver) forgetVerified(segments []Segment) {
	for first := range a.verified {
		if len(segments) == 0 || first < segments[0].First {
			delete(a.verified, first)
		}
	}
}
