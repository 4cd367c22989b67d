package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/logcore/logcore"
)

// takeOver makes this archiver the one that writes.
//
// It first leaves its claim on a majority and only then reads the manifest, from a
// majority too. An older archiver looks for claims after it has written a record to a
// majority and before it counts it. Two majorities share a target: there either the
// older one finds the claim, or its record was there before this one read.
func (a *Archiver) takeOver(ctx context.Context) error {
	if err := a.step("claim"); err != nil {
		return err
	}
	if err := a.claim(ctx); err != nil {
		return err
	}
	m, err := loadManifest(ctx, a.remotes, a.o.Cluster, a.o.Shard, a.o.Keys)
	if m == nil || err != nil && !errors.Is(err, ErrNoArchive) {
		return err
	}
	if need := majority(len(a.remotes)); len(m.answered) < need {
		return fmt.Errorf("%w: %d of %d targets answered, %d are needed to take the archive over", ErrUnproven, len(m.answered), len(a.remotes), need)
	}
	if m.state.epoch > a.o.Epoch {
		return fmt.Errorf("%w: the archive was written by epoch %d, this archiver has %d", logcore.ErrFenced, m.state.epoch, a.o.Epoch)
	}
	if err := a.checkTargets(m.state); err != nil {
		return err
	}
	for _, p := range m.problems {
		if p.Kind == ProblemRecordRotten || p.Kind == ProblemRecordFork {
			a.o.ManifestCorruptions.Inc()
		}
		a.log.Warn("manifest: will be repaired from the other targets", "problem", p.String())
	}
	return a.adopt(ctx, m)
}

// claim leaves the epoch on a majority of the targets.
func (a *Archiver) claim(ctx context.Context) error {
	r := &record{cluster: a.o.Cluster, shard: a.o.Shard, epoch: a.o.Epoch, kind: recordClaim, targets: a.targetNames()}
	encoded, err := encodeRecord(ctx, a.o.Keys, r)
	if err != nil {
		return err
	}
	errs := each(ctx, len(a.remotes), majority(len(a.remotes)), a.o.MaxAge, func(ctx context.Context, i int) error {
		return a.remotes[i].putVerified(ctx, r.key(), encoded, a.isBroken, func() error { return nil })
	})
	if err := a.quorum("claim of the epoch", errs); err != nil {
		return err
	}
	fenced, err := a.checkFence(ctx, errs)
	if fenced {
		return err
	}
	return nil
}

// isBroken reports whether what a target holds is no record at all: half a PUT or rot,
// which may be replaced. A whole record of other content may not.
func (a *Archiver) isBroken(stored []byte) bool {
	_, err := parseRecord(context.Background(), a.o.Keys, stored)
	return errors.Is(err, logcore.ErrCorrupt)
}

func (a *Archiver) targetNames() []string {
	names := make([]string, len(a.remotes))
	for i, r := range a.remotes {
		names[i] = r.Name
	}
	slices.Sort(names)
	return names
}

// checkTargets refuses other targets than the archive's: with another set, another
// number is a majority.
func (a *Archiver) checkTargets(s *state) error {
	if s.number == 0 {
		return nil
	}
	want, have := slices.Sorted(slices.Values(s.targets)), a.targetNames()
	if !slices.Equal(want, have) {
		return fmt.Errorf("%w: the archive is on targets %s, configured are %s: configure the same names (a target that is gone included)",
			logcore.ErrInvalid, strings.Join(want, ","), strings.Join(have, ","))
	}
	return nil
}

// quorum turns the errors of a round over all targets into nil when a majority
// succeeded, or into an ErrNoQuorum that names the others.
func (a *Archiver) quorum(what string, errs []error) error {
	var bad []string
	for i, err := range errs {
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s (%v)", a.remotes[i].Name, err))
		}
	}
	if good, need := len(errs)-len(bad), majority(len(errs)); good < need {
		return fmt.Errorf("%w: %s is on %d of %d, %d are needed; failed: %s", ErrNoQuorum, what, good, len(errs), need, strings.Join(bad, "; "))
	}
	return nil
}

// checkFence looks for a claim of a higher epoch on the targets that errs shows no
// error for. It needs their majority to answer.
func (a *Archiver) checkFence(ctx context.Context, errs []error) (fenced bool, err error) {
	own := claimKey(a.o.Cluster, a.o.Shard, a.o.Epoch)
	answers := a.round(ctx, func(ctx context.Context, i int) error {
		if errs[i] != nil {
			return errs[i]
		}
		keys, err := a.remotes[i].list(ctx, claimPrefix(a.o.Cluster, a.o.Shard), own)
		if err == nil && len(keys) > 0 {
			err = fmt.Errorf("%w: %s holds the claim %s of a newer archiver, this one has epoch %d",
				logcore.ErrFenced, a.remotes[i].Name, keys[len(keys)-1].Key, a.o.Epoch)
		}
		return err
	})
	for _, err := range answers {
		if errors.Is(err, logcore.ErrFenced) {
			return true, err
		}
	}
	return false, a.quorum("the look for newer claims", answers)
}

// adopt completes the chain on a majority of the targets, so that whatever the earlier
// archiver left half written counts from now on, and removes forks from the others.
func (a *Archiver) adopt(ctx context.Context, m *manifest) error {
	if err := a.step("adopt"); err != nil {
		return err
	}
	for _, r := range a.remotes {
		for key := range m.holds[r.Name] {
			r.hold(key, true)
		}
	}
	errs := each(ctx, len(a.remotes), majority(len(a.remotes)), a.o.MaxAge, func(ctx context.Context, i int) error {
		return a.syncRemote(ctx, a.remotes[i], m.chain)
	})
	if err := a.quorum("the manifest as loaded", errs); err != nil {
		return err
	}
	for _, r := range a.remotes {
		for _, key := range m.forks[r.Name] {
			if err := a.step("unfork"); err != nil {
				return err
			}
			// The chain is on a majority; a fork that stays behind is found again next time.
			_ = r.delete(ctx, key)
		}
	}
	a.commitSlot <- struct{}{} // free: nothing commits before the take-over
	defer func() { <-a.commitSlot }()
	a.chain = slices.Clone(m.chain)
	a.publish(m.state)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.remotes {
		a.unswept[r.Name] = true
	}
	now := time.Now()
	for _, n := range m.state.retired {
		a.retiredAt[n] = now
	}
	return nil
}

// syncRemote writes to a target the records of the chain that it lacks. Other bytes
// under such a key are rot or a fork: the chain is on a majority, so it goes. It makes
// one call at least, which tells whether the target is there; with a nil chain only that.
func (a *Archiver) syncRemote(ctx context.Context, r *remote, chain []stored) error {
	var missing []stored
	if chain != nil {
		missing = r.lacks(chain)
	}
	for _, s := range missing {
		if err := a.step("sync"); err != nil {
			return err
		}
		if err := r.putVerified(ctx, s.key(), s.encoded, always, func() error { return nil }); err != nil {
			return err
		}
		r.hold(s.key(), true)
	}
	if len(missing) == 0 {
		_, err := r.list(ctx, claimPrefix(a.o.Cluster, a.o.Shard), claimKey(a.o.Cluster, a.o.Shard, a.o.Epoch))
		return err
	}
	return nil
}
