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

// AddTarget makes a bucket a target of the archive while it runs: it gets the whole
// manifest, counts for majorities from then on, and takes fragments as the placement
// says. The bucket must be empty of this archive or hold a part of it; its marker is the
// caller's to write. It returns once a record that names the target is committed; of a target that is there
// already, at the same location, at once.
func (a *Archiver) AddTarget(ctx context.Context, t Target) error {
	if err := a.addRemote(t); err != nil {
		return fmt.Errorf("add target %s: %w", t.Name, err)
	}
	for pause := retryPauseMin; ; pause = min(2*pause, time.Second) {
		err := a.join(ctx, t.Name)
		if err == nil || isFatal(err) || ctx.Err() != nil {
			return err
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("add target %s: %w: %w", t.Name, ctx.Err(), err)
		}
	}
}

// addRemote puts a target beside the others. A name is used once: who was there before may
// still be collecting.
func (a *Archiver) addRemote(t Target) error {
	s := a.state.Load()
	if s == nil {
		return errNotTakenOver
	}
	if slices.Contains(s.targets, t.Name) {
		if r := remoteNamed(a.all(), t.Name); r != nil && r.Bucket != nil && t.Bucket != nil && r.Bucket.String() != t.Bucket.String() {
			return fmt.Errorf("%w: the archive has a target of that name at %v", logcore.ErrInvalid, r.Bucket)
		} else if r != nil {
			return nil // by this command, when it was interrupted
		}
	}
	if !s.inUse(t.Name) {
		return fmt.Errorf("%w: a target of that name was removed from the archive: give it another name", logcore.ErrInvalid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	remotes := slices.DeleteFunc(slices.Clone(a.all()), func(r *remote) bool { return r.Name == t.Name })
	if len(remotes) < len(a.all()) {
		return nil // it is configured, and about to be added
	}
	targets := make([]Target, 0, len(remotes)+1)
	for _, r := range remotes {
		targets = append(targets, r.Target)
	}
	targets = append(targets, t)
	if err := validateTargets(targets); err != nil {
		return err
	}
	r := newRemotes([]Target{t}, a.o.OpTimeout)[0]
	for _, other := range remotes {
		if providerKey(other.Target) == providerKey(t) {
			r.provider = other.provider
		}
	}
	a.unswept[t.Name] = true
	a.setRemotes(append(remotes, r))
	return nil
}

// join commits that a target is one of the archive's, once it holds the whole manifest.
func (a *Archiver) join(ctx context.Context, name string) error {
	r := remoteNamed(a.all(), name)
	if slices.Contains(a.state.Load().targets, name) {
		return nil
	}
	if err := a.syncRemote(ctx, r, a.chainNow()); err != nil {
		return fmt.Errorf("add target %s: %w", name, err)
	}
	if err := a.step("join"); err != nil {
		return err
	}
	err := a.commit(ctx, func(s *state) *record {
		if slices.Contains(s.targets, name) {
			return nil
		}
		return s.change(a.o.Epoch, slices.Sorted(slices.Values(append(slices.Clone(s.targets), name))))
	})
	if err == nil {
		a.log.Info("target added to the archive", "target", name)
	}
	return err
}

// joinTargets adds targets that are configured and new.
func (a *Archiver) joinTargets(ctx context.Context) error {
	for _, r := range a.all() {
		s := a.state.Load()
		if s.number == 0 || slices.Contains(s.targets, r.Name) || !s.inUse(r.Name) || r.Bucket == nil {
			continue
		}
		if err := a.join(ctx, r.Name); err != nil {
			return err
		}
	}
	return nil
}

// Evacuate moves everything off a target, also one that is lost: nothing new goes there,
// and what it holds is rebuilt elsewhere by the care lane. It returns once that is
// decided, in the manifest; Status and Evacuated tell how far it is. It fails with
// ErrPlacement when the others could not carry the archive. Of one that has been evacuated and removed nothing is left
// to do.
func (a *Archiver) Evacuate(ctx context.Context, name string) error {
	err := a.decide(ctx, func(s *state) (*record, error) {
		if slices.Contains(s.leaving, name) || !s.inUse(name) {
			return nil, nil
		}
		r := s.change(a.o.Epoch, a.targetNames())
		r.leaving = append(slices.Clone(s.leaving), name)
		return r, a.checkLeave(s, name)
	})
	if err != nil {
		return fmt.Errorf("evacuate target %s: %w", name, err)
	}
	return nil
}

// checkLeave checks that the archive can do without a target.
func (a *Archiver) checkLeave(s *state, name string) error {
	if !slices.Contains(s.targets, name) {
		return fmt.Errorf("%w %q: the archive is on %s", ErrUnknownTarget, name, strings.Join(s.targets, ", "))
	}
	k, m := a.codeOf(s)
	if err := a.checkPolicy(s, k, m, name); err != nil {
		return fmt.Errorf("%w (with `logcore target add URL`), or re-code first", err)
	}
	return nil
}

// Evacuated returns how many fragments of live objects are left on a target.
func (a *Archiver) Evacuated(name string) (left int) {
	if s := a.state.Load(); s != nil {
		left = s.fragmentsOn(name)
	}
	return left
}

func (s *state) fragmentsOn(name string) (n int) {
	for _, o := range s.live {
		if slices.ContainsFunc(o.fragments, func(f fragment) bool { return f.target == name }) {
			n++
		}
	}
	return n
}

// RemoveTarget evacuates a target, waits until nothing is left on it, and takes it off
// the archive: it counts for no majority any more and holds nothing that is needed. Errors
// are those of Evacuate; when ctx ends first the evacuation goes on.
func (a *Archiver) RemoveTarget(ctx context.Context, name string) error {
	if err := a.Evacuate(ctx, name); err != nil {
		return err
	}
	for left := a.Evacuated(name); left > 0; left = a.Evacuated(name) {
		poke(a.wake)
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("remove target %s: %w: %d fragments are still there; the evacuation goes on", name, err, left)
		}
	}
	if err := a.step("leave"); err != nil {
		return err
	}
	busy := false
	err := a.commit(ctx, func(s *state) *record {
		if busy = s.fragmentsOn(name) > 0; busy || !slices.Contains(s.targets, name) {
			return nil
		}
		without := func(names []string) []string {
			return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		}
		r := s.change(a.o.Epoch, without(s.targets))
		r.leaving, r.left = without(s.leaving), append(slices.Clone(s.left), name)
		r.left = r.left[max(0, len(r.left)-leftMax):]
		return r
	})
	switch {
	case err != nil:
		return err
	case busy:
		return fmt.Errorf("%w: remove target %s: it was given a fragment meanwhile: try again", logcore.ErrInvalid, name)
	}
	a.log.Info("target removed from the archive", "target", name)
	return nil
}

// evacuate moves fragments off the targets that are leaving.
func (a *Archiver) evacuate(ctx context.Context) error {
	s := a.state.Load()
	if len(s.leaving) == 0 {
		return nil
	}
	var moved []*object
	var errs []error
	for _, o := range s.live {
		if len(moved) == repairBatch {
			poke(a.wake)
			break
		}
		n, err := a.moveOff(ctx, o, s.leaving)
		switch {
		case isFatal(err) || ctx.Err() != nil:
			return err
		case err != nil:
			errs = append(errs, err)
		case n != nil:
			moved = append(moved, n)
		}
	}
	if len(moved) > 0 {
		if err := a.step("evacuate"); err != nil {
			return err
		}
	}
	err := a.restate(ctx, moved)
	if err == nil && len(moved) > 0 {
		a.mu.Lock()
		for _, name := range s.leaving {
			a.unswept[name] = true // what was there is nobody's now
		}
		a.mu.Unlock()
	}
	return errors.Join(append(errs, err)...)
}

// moveOff puts the fragment of an object that is on a leaving target elsewhere; nil when
// there is none.
func (a *Archiver) moveOff(ctx context.Context, o *object, leaving []string) (*object, error) {
	for i, f := range o.fragments {
		if f.target == "" || !slices.Contains(leaving, f.target) {
			continue
		}
		r := a.spot(o, i)
		if r == nil {
			return nil, fmt.Errorf("%w: fragment %d of %s on %s has no other target to go to just now", ErrPlacement, i, o.describe(), f.target)
		}
		n, err := a.replace(ctx, o, map[int]*remote{i: r})
		if err != nil {
			return nil, err
		}
		if n.fragments[i].target == "" {
			_, why := r.health()
			return nil, fmt.Errorf("fragment %d of %s could not be put on %s: %w", i, o.describe(), r.Name, errors.Join(why, errNotWritten))
		}
		return n, nil
	}
	return nil, nil
}

// changeKeys commits that the current master key signs from here on, when it is a new one.
func (a *Archiver) changeKeys(ctx context.Context) error {
	s := a.state.Load()
	n := len(s.signers)
	if n == 0 || s.signers[n-1].keyID == a.o.Keys.Current() {
		return nil
	}
	var failed error
	err := a.commit(ctx, func(s *state) *record {
		r := s.change(a.o.Epoch, a.targetNames())
		r.kind = recordKeys
		if r.signers, failed = newSigner(ctx, a.o.Keys, r, s.signers); failed != nil {
			return nil
		}
		return r
	})
	if err = errors.Join(failed, err); err == nil {
		a.log.Info("the manifest is signed with a new key from here on", "key", a.o.Keys.Current())
	}
	return err
}
