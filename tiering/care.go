package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
)

// carePause is how long a lane sleeps when nothing wakes it.
const carePause = time.Second

// duty is one of the things that a lane does over and over.
type duty struct {
	what string
	do   func(context.Context) error
}

// careLane does what changes the manifest and may wait a moment.
func (a *Archiver) careLane(ctx context.Context) error {
	return a.duties(ctx, a.wake, []duty{
		{"bring targets up to date", a.syncTargets},
		{"sign with the current key", a.changeKeys},
		{"add targets", a.joinTargets},
		{"seal segments", a.foldSegments},
		{"trim the hot tier", a.trim},
		{"note missing fragments", a.restateMissing},
		{"fold tails", a.foldTails},
		{"place missing fragments", a.placeMissing},
		{"evacuate targets", a.evacuate},
		{"re-code", a.recode},
		{"rewrite rotten fragments", a.rewriteRotten},
		{"roll the manifest up", a.rollUp},
	})
}

// tidyLane deletes what the manifest no longer names. It has a lane of its own: many
// small calls, of which some may hang.
func (a *Archiver) tidyLane(ctx context.Context) error {
	return a.duties(ctx, a.tidy, []duty{
		{"delete what was superseded", a.purge},
		{"delete orphans", a.sweep},
	})
}

// errNothingNew is what a duty returns that could not be tried: it neither failed again nor
// is it done.
var errNothingNew = errors.New("not tried")

// duties does every duty each round, and a round whenever woken and every carePause.
// One that fails is tried again in the next round and does not keep the others from
// their work.
func (a *Archiver) duties(ctx context.Context, wake <-chan struct{}, duties []duty) error {
	said := complaints{}
	for {
		for _, d := range duties {
			err := d.do(ctx)
			switch {
			case err == errNothingNew:
			case isFatal(err):
				return fmt.Errorf("tiering: %s: %w", d.what, err)
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && said.worth(d.what, err, time.Now()):
				a.log.Warn("a duty of the archiver failed and is tried again until it succeeds", "duty", d.what, "error", err)
			case err == nil && said.over(d.what):
				a.log.Info("a duty of the archiver that had failed is done", "duty", d.what)
			}
		}
		timer := time.NewTimer(carePause)
		select {
		case <-wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// probeTimeout bounds the first call to a target that failed before, so that one that
// hangs does not hold the care lane up.
const probeTimeout = 2 * time.Second

// syncTargets looks whether targets that failed are back, and writes the records that
// they missed.
func (a *Archiver) syncTargets(ctx context.Context) error {
	chain := a.chainNow()
	remotes := a.all()
	errs := make([]error, len(remotes))
	eachLimited(len(remotes), len(remotes), func(i int) { errs[i] = a.syncTarget(ctx, remotes[i], chain) })
	waiting := error(nil)
	for i, err := range errs {
		if isFatal(err) {
			return err
		}
		if errors.Is(err, errBreakerOpen) || errors.Is(err, errNoBucket) {
			errs[i], waiting = nil, errNothingNew // known; Status shows it
		}
	}
	return cmp.Or(errors.Join(errs...), waiting)
}

func (a *Archiver) syncTarget(ctx context.Context, r *remote, chain []stored) error {
	if !a.state.Load().inUse(r.Name) {
		return nil
	}
	ok, _ := r.health()
	if ok && !r.wasAway() && len(r.lacks(chain)) == 0 {
		return nil
	}
	if !ok {
		probe, cancel := context.WithTimeoutCause(ctx, probeTimeout, errStraggler)
		defer cancel()
		if err := a.syncRemote(probe, r, nil); err != nil {
			return err
		}
	}
	if err := a.syncRemote(ctx, r, chain); err != nil {
		return err
	}
	r.comeBack()
	a.log.Info("target is up to date again", "target", r.Name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unswept[r.Name] = true
	return nil
}

// foldSegments archives as sealed objects the sealed segments that tails cover.
func (a *Archiver) foldSegments(ctx context.Context) error {
	for _, s := range a.o.Source.Segments() {
		if !s.Sealed || s.Last > a.Covered() || s.First < a.state.Load().first() {
			continue
		}
		for !a.state.Load().segmentComplete(s.First) {
			next := a.state.Load().sealedThrough(s.First) + 1
			if next > s.Last {
				return fmt.Errorf("%w: tiering: segment %d ends at %d in the archive and is not marked final", logcore.ErrInvalid, s.First, s.Last)
			}
			if _, err := a.archiveRun(ctx, s, next, s.Last, KindSealed); err != nil {
				return err
			}
			if err := a.trim(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// tailFanIn tails of one level are folded into one of the next, so that a segment that
// fills slowly has few of them and each byte is archived a few times only.
const tailFanIn = 16

// foldTails folds one run of tails.
func (a *Archiver) foldTails(ctx context.Context) error {
	run := findRun(a.state.Load().path, a.fanIn, a.o.objectBytesMax())
	if run == nil {
		return nil
	}
	first, last := run[0], run[len(run)-1]
	for _, s := range a.o.Source.Segments() {
		if s.First == first.SegmentFirst && !s.Sealed {
			_, err := a.archive(ctx, s, first.First, last.Last, KindTail, first.level+1)
			return err
		}
	}
	return nil // sealed or trimmed meanwhile: its sealed objects will do
}

// findRun returns fanIn tails of one segment and level that follow each other at
// the end of the path's tails of that level, and that fit in one object.
func findRun(path []*object, fanIn int, bytesMax int64) []*object {
	end := len(path)
	for end > 0 && path[end-1].kind() == KindTail {
		start, bytes := end-1, path[end-1].rawBytes
		for start > 0 && end-start < fanIn && sameRun(path[start-1], path[end-1]) && bytes+path[start-1].rawBytes <= bytesMax {
			start--
			bytes += path[start].rawBytes
		}
		if end-start == fanIn {
			return path[start:end]
		}
		end = start
	}
	return nil
}

func sameRun(a, b *object) bool {
	return a.kind() == KindTail && a.level == b.level && a.SegmentFirst == b.SegmentFirst && a.level < 255
}

// Rollups bound how many records loading has to read, at a cost that stays
// proportional to what is written anyway.
const (
	rollupAfterMin = 64
	rollupAfterMax = 256
)

// rollUp writes the whole state as one record once enough have piled up.
func (a *Archiver) rollUp(ctx context.Context) error {
	s := a.state.Load()
	if len(a.chainNow()) <= min(max(len(s.live)/4, a.rollupMin), rollupAfterMax) {
		return nil
	}
	if err := a.step("rollup"); err != nil {
		return err
	}
	a.mu.Lock()
	gone := make(map[objectName]bool, len(a.gone))
	for n, on := range a.gone {
		gone[n] = a.goneEverywhere(on)
	}
	a.mu.Unlock()
	err := a.commit(ctx, func(s *state) *record { return s.rollup(a.o.Epoch, a.targetNames(), gone) })
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, everywhere := range gone {
		if everywhere {
			delete(a.gone, n)
			delete(a.places, n)
			delete(a.retiredAt, n)
		}
	}
	return nil
}
