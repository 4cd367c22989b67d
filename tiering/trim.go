package tiering

import (
	"context"
	"fmt"

	"github.com/logcore/logcore"
)

// Under pressure the hot tier trims what has k fragments; otherwise it waits for all.
const pressurePercent = 80

// trim tells the source how far it may drop its segments: the longest run of them that
// sealed objects cover, every fragment placed; under disk pressure at least k. The
// state holds only what is committed on a majority of the targets and was verified
// there, so nothing is trimmed that is not archived.
func (a *Archiver) trim(ctx context.Context) error {
	upTo := a.trimmable(a.underPressure())
	a.mu.Lock()
	done := upTo <= a.trimmed
	a.mu.Unlock()
	if done {
		return nil
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

// trimmable returns the last LSN of the last segment that may go; 0 when none may.
func (a *Archiver) trimmable(pressure bool) (upTo logcore.LSN) {
	s := a.state.Load()
	for _, seg := range a.o.Source.Segments() {
		if !seg.Sealed || !s.segmentComplete(seg.First) {
			return upTo
		}
		for _, o := range s.segmentObjects(seg.First) {
			if n := o.placed(); n < o.K || n < o.K+o.M && !pressure {
				return upTo
			}
		}
		upTo = seg.Last
	}
	return upTo
}
