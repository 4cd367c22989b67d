package tiering

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
)

// tailLane archives what is committed and not covered. It begins half of MaxAge after
// the first such entry was committed, earlier when the targets have been slow, so that
// enough of MaxAge is left for the work; or at once when a Flush waits for it.
func (a *Archiver) tailLane(ctx context.Context) error {
	for {
		next, err := a.nextUncovered(ctx)
		if err != nil {
			return err
		}
		if err := a.o.Source.WaitCommitted(ctx, next); err != nil {
			return err
		}
		begun := a.noteOldest(time.Now())
		if err := a.awaitDue(ctx, begun.Add(a.o.MaxAge-a.reserve()), next); err != nil {
			return err
		}
		taken, takenAt := a.o.Source.Committed(), time.Now()
		for next <= taken {
			err := a.retry(ctx, "archive the tail", func() error {
				through, err := a.archiveNext(ctx, next, taken)
				next = max(next, through+1)
				return err
			})
			if err != nil {
				return err
			}
		}
		a.noteCovered(takenAt)
	}
}

// reserve is how much of MaxAge is kept for the work: two and a half times what it has
// taken, for what comes while a round is under way waits for the one after it.
func (a *Archiver) reserve() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return min(max(a.work*5/2, a.o.MaxAge/2), a.o.MaxAge*7/8)
}

// nextUncovered returns the first LSN to archive: the one after what is covered, or
// the first there is when nothing is.
func (a *Archiver) nextUncovered(ctx context.Context) (logcore.LSN, error) {
	if c := a.Covered(); c > 0 {
		return c + 1, nil
	}
	if err := a.o.Source.WaitCommitted(ctx, 1); err != nil {
		return 0, err
	}
	segments := a.o.Source.Segments()
	if len(segments) == 0 {
		return 0, fmt.Errorf("%w: tiering: the hot tier has committed %d and shows no segment", logcore.ErrInvalid, a.o.Source.Committed())
	}
	return segments[0].First, nil
}

// awaitDue blocks until due, or until a Flush asks for next.
func (a *Archiver) awaitDue(ctx context.Context, due time.Time, next logcore.LSN) error {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		a.mu.Lock()
		asked := a.flushTo >= next
		a.mu.Unlock()
		if asked {
			return nil
		}
		select {
		case <-timer.C:
			return nil
		case <-a.flush:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// archiveNext archives what there is from next on in one segment, and returns through where
// it came. When the segment is sealed and sealed objects cover all of it before next, the
// objects are sealed ones and need not be folded later.
func (a *Archiver) archiveNext(ctx context.Context, next, taken logcore.LSN) (logcore.LSN, error) {
	segments := a.o.Source.Segments()
	for _, s := range segments {
		if s.First <= next && next <= s.Last {
			if s.Sealed && a.state.Load().sealedThrough(s.First)+1 == next {
				return a.archiveRun(ctx, s, next, s.Last, KindSealed)
			}
			return a.archiveRun(ctx, s, next, min(s.Last, taken), KindTail)
		}
	}
	if len(segments) > 0 && next < segments[0].First {
		return 0, fmt.Errorf("%w: entry %d is neither archived nor in the hot tier, which begins at %d", ErrDiverged, next, segments[0].First)
	}
	return 0, fmt.Errorf("%w: tiering: no segment of the hot tier holds entry %d, though %d is committed", logcore.ErrInvalid, next, taken)
}

// rpoWindow rounds are remembered for Status.
const rpoWindow = 64

type rpoSample struct {
	at  time.Time
	age time.Duration
}

// noteOldest returns since when at the latest an entry waits to be covered: what was
// noted before, or now.
func (a *Archiver) noteOldest(now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.oldest.IsZero() {
		a.oldest = now
	}
	return a.oldest
}

// noteCovered ends a round that covered everything committed by takenAt. Whatever is
// not covered now was committed after that.
func (a *Archiver) noteCovered(takenAt time.Time) {
	behind := a.o.Source.Committed() > a.Covered()
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.work = max(now.Sub(takenAt), a.work-a.work/8)
	a.rpo[a.rpoNext%rpoWindow] = rpoSample{now, now.Sub(a.oldest)}
	a.rpoNext++
	a.metrics.rpo.Observe(now.Sub(a.oldest).Seconds())
	a.oldest = time.Time{}
	if behind {
		a.oldest = takenAt
	}
}

// lag returns how long the oldest entry that is not covered has waited, at most.
func (a *Archiver) lag() time.Duration {
	a.mu.Lock()
	oldest := a.oldest
	a.mu.Unlock()
	if oldest.IsZero() {
		return 0
	}
	return time.Since(oldest)
}

// worstRPO returns the largest age in the last minute of the remembered rounds.
func (a *Archiver) worstRPO() (worst time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.rpo {
		if time.Since(s.at) <= time.Minute {
			worst = max(worst, s.age)
		}
	}
	return worst
}
