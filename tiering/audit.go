package tiering

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// The manifest says where a fragment was put. Whether it is there still only the target
// knows: a bucket may have been emptied, swapped or restored from an old copy. So nothing
// is let go of on the manifest's word alone: before the hot tier may trim, every fragment
// of the segment is looked for, and a target is audited as a whole after a take-over,
// whenever it was away, and now and then. What is not there is stated as not placed and then placed anew.

// recheckAfter is how long a segment or a target that was found complete passes for
// complete. The hot tier may keep what it was told that it may drop, and drop it later.
const recheckAfter = 10 * time.Minute

// verified is what was found of a segment's fragments.
type verified struct {
	at     time.Time
	all    bool // every fragment of each object
	enough bool // k of each object at least
}

// verifySegment looks for the fragments of a segment's objects. A target that does not
// answer counts as if its fragment were not there; only one that says so has lost it.
// For the care lane alone.
func (a *Archiver) verifySegment(ctx context.Context, s *state, segment logcore.LSN, pressure bool) bool {
	suffices := func(v verified) bool { return v.all || pressure && v.enough }
	if v := a.verified[segment]; suffices(v) && time.Since(v.at) < a.recheck {
		return true
	}
	objects := s.segmentObjects(segment)
	counts := make([]int, len(objects))
	eachLimited(len(objects), loadConcurrency, func(i int) { counts[i] = a.countPresent(ctx, objects[i]) })
	v := verified{time.Now(), true, true}
	for i, o := range objects {
		v.all = v.all && counts[i] == o.K+o.M
		v.enough = v.enough && counts[i] >= o.K
	}
	a.verified[segment] = v
	return suffices(v)
}

// countPresent asks the targets for the fragments that the manifest places there.
func (a *Archiver) countPresent(ctx context.Context, o *object) (n int) {
	present := make([]bool, len(o.fragments))
	eachLimited(len(o.fragments), len(o.fragments), func(i int) {
		if r := remoteNamed(a.all(), o.fragments[i].target); r != nil {
			present[i] = a.present(ctx, r, o, i)
		}
	})
	for _, p := range present {
		if p {
			n++
		}
	}
	return n
}

// present asks a target for a fragment. When it says that there is none, or one of
// another length, that is noted.
func (a *Archiver) present(ctx context.Context, r *remote, o *object, index int) bool {
	there, known := a.head(ctx, r, o, index)
	if known && !there {
		a.noteMissing(o, index, r.Name)
	}
	return there
}

// head asks a target for a fragment; known is false when it does not answer.
func (a *Archiver) head(ctx context.Context, r *remote, o *object, index int) (there, known bool) {
	var found bucket.Attributes
	r.usage.gets.Add(1)
	err := r.do(ctx, func(ctx context.Context) (err error) {
		found, err = r.Bucket.Head(ctx, o.name().key(a.o.Cluster, a.o.Shard, index))
		return err
	})
	return err == nil && found.Size == o.FragmentBytes(), err == nil || errors.Is(err, bucket.ErrNotFound)
}

// noteMissing notes that a fragment is not where the manifest places it.
func (a *Archiver) noteMissing(o *object, index int, target string) {
	a.mu.Lock()
	news := a.missing[o.name()]&(1<<index) == 0
	a.missing[o.name()] |= 1 << index
	a.unswept[target] = true // it may have lost more
	a.mu.Unlock()
	if news {
		a.log.Warn("a fragment is not where it was put: it is placed again", "target", target, "object", o.describe(), "fragment", index)
	}
	poke(a.wake)
}

// restateMissing commits that the fragments that were not found are not placed. It asks
// once more: since it was noted the care lane, which this is a duty of, may have placed
// one anew.
func (a *Archiver) restateMissing(ctx context.Context) error {
	a.mu.Lock()
	missing := a.missing
	a.missing = map[objectName]targetSet{}
	a.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	var restated []*object
	for _, o := range a.state.Load().live {
		set := missing[o.name()]
		if set == 0 {
			continue
		}
		delete(a.verified, o.SegmentFirst)
		n := *o
		n.fragments = slices.Clone(o.fragments)
		for i, f := range o.fragments {
			r := remoteNamed(a.all(), f.target)
			if set&(1<<i) == 0 || r == nil {
				continue
			}
			if there, known := a.head(ctx, r, o, i); known && !there {
				n.fragments[i].target = ""
			}
		}
		if n.placed() < o.placed() {
			restated = append(restated, &n)
		}
	}
	for batch := range slices.Chunk(restated, repairBatch) {
		if err := a.step("restate"); err != nil {
			return err
		}
		if err := a.restate(ctx, batch); err != nil {
			return err // the audit finds the others again: their targets are unswept
		}
	}
	return nil
}

// auditTarget looks for every fragment and record that a target should hold. listed is
// a listing made after s was loaded: it only says which of them to ask for.
func (a *Archiver) auditTarget(ctx context.Context, r *remote, s *state, listed []bucket.Attributes) error {
	size := make(map[string]int64, len(listed))
	for _, k := range listed {
		size[k.Key] = k.Size
	}
	for _, o := range s.live {
		for i, f := range o.fragments {
			if f.target != r.Name || size[o.name().key(a.o.Cluster, a.o.Shard, i)] == o.FragmentBytes() {
				continue
			}
			if a.present(ctx, r, o, i) {
				continue
			}
			if ok, err := r.health(); !ok {
				return err
			}
		}
	}
	return a.auditRecords(ctx, r)
}

// auditRecords finds out which records of the chain a target has lost; the care lane
// writes them again.
func (a *Archiver) auditRecords(ctx context.Context, r *remote) error {
	chain := a.chainNow()
	listed, err := r.list(ctx, recordPrefix(a.o.Cluster, a.o.Shard), "")
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(listed))
	for _, k := range listed {
		there[k.Key] = true
	}
	for _, s := range chain {
		if !there[s.key()] {
			r.hold(s.key(), false)
			poke(a.wake)
		}
	}
	return nil
}
