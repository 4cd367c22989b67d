package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/logcore/logcore/tiering/erasure"
)

// repairBatch is how many objects one record restates.
const repairBatch = 64

// placeMissing places the fragments that degraded objects lack on targets that are
// back, and commits where they are.
func (a *Archiver) placeMissing(ctx context.Context) error {
	var restated []*object
	var errs []error
	for _, o := range a.state.Load().live {
		if len(restated) == repairBatch {
			break
		}
		todo := a.placeable(o)
		if len(todo) == 0 {
			continue
		}
		n, err := a.replace(ctx, o, todo)
		switch {
		case isFatal(err) || ctx.Err() != nil:
			return err
		case err != nil:
			errs = append(errs, err) // one that can't be read does not keep the others degraded
		case n.placed() > o.placed():
			restated = append(restated, n)
		}
	}
	return errors.Join(append(errs, a.restate(ctx, restated))...)
}

// placeable returns the fragments of an object that are not placed and whose target is
// healthy and in use by no other fragment of it.
func (a *Archiver) placeable(o *object) (todo map[int]*remote) {
	if o.placed() == len(o.fragments) {
		return nil
	}
	with := *o // those chosen count as placed
	with.fragments = slices.Clone(o.fragments)
	for i, f := range o.fragments {
		if f.target != "" {
			continue
		}
		if r := a.spot(&with, i); r != nil {
			if todo == nil {
				todo = map[int]*remote{}
			}
			todo[i] = r
			with.fragments[i].target = r.Name
		}
	}
	return todo
}

// replace rebuilds an object from what is left of it and puts the fragments in todo. It
// returns the object with those placed that could be, and only those of todo.
func (a *Archiver) replace(ctx context.Context, o *object, todo map[int]*remote) (*object, error) {
	share, err := a.memory.reserve(ctx, 4*o.FragmentBytes()*int64(o.K+o.M))
	if err != nil {
		return nil, err
	}
	defer share.release()
	if err := a.step("repair"); err != nil {
		return nil, err
	}
	from := *o
	from.fragments = slices.Clone(o.fragments)
	for i := range todo {
		from.fragments[i].target = "" // not there, or known to be rotten: no need to read it
	}
	fragments, err := a.rebuild(ctx, &from)
	if err != nil {
		return nil, err
	}
	n := from
	n.fragments = slices.Clone(from.fragments)
	for i, r := range todo {
		switch err := a.putFragment(ctx, r, o, i, fragments[i]); {
		case isFatal(err) || ctx.Err() != nil:
			return nil, err
		case err == nil:
			n.fragments[i].target = r.Name
			a.unlocked(o.name())
		}
	}
	return &n, nil
}

// restate commits new placements of objects that are still live.
func (a *Archiver) restate(ctx context.Context, objects []*object) error {
	if len(objects) == 0 {
		return nil
	}
	return a.commit(ctx, func(s *state) *record {
		objects = slices.DeleteFunc(objects, func(o *object) bool {
			_, found := slices.BinarySearchFunc(s.live, o, compareObjects)
			return !found
		})
		if len(objects) == 0 {
			return nil
		}
		return s.change(a.o.Epoch, a.targetNames(), objects...)
	})
}

// noteRotten is told by the reader. It never blocks.
func (a *Archiver) noteRotten(n objectName, index int) {
	select {
	case a.rotten <- rottenSeen{n, index}:
		poke(a.wake)
	default:
	}
}

// rewriteRotten replaces fragments that readers found damaged by the same bytes anew.
// Those that could not be are noted again, for the next round.
func (a *Archiver) rewriteRotten(ctx context.Context) error {
	var errs []error
	done := map[rottenSeen]bool{} // several readers may have met the same one
	for range len(a.rotten) {
		seen := <-a.rotten // nobody else takes from it
		if done[seen] {
			continue
		}
		done[seen] = true
		err := a.rewriteOne(ctx, seen)
		if err == nil {
			continue
		}
		select {
		case a.rotten <- seen:
		default: // whoever reads it finds it again
		}
		if isFatal(err) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// rewriteOne replaces one fragment, unless its object is superseded by now.
func (a *Archiver) rewriteOne(ctx context.Context, seen rottenSeen) error {
	for _, o := range a.state.Load().segmentObjects(seen.name.segment) {
		if o.name() != seen.name {
			continue
		}
		r := remoteNamed(a.all(), o.fragments[seen.index].target)
		if r == nil {
			continue // not placed: that is placeMissing's
		}
		n, err := a.replace(ctx, o, map[int]*remote{seen.index: r})
		if err != nil {
			return err
		}
		if n.fragments[seen.index].target == "" {
			_, why := r.health()
			return fmt.Errorf("fragment %d of %s is rotten on %s and could not be rewritten there: %w", seen.index, o.describe(), r.Name, cmp.Or(why, errNotWritten))
		}
		a.log.Info("rewrote a rotten fragment", "target", r.Name, "object", o.describe(), "fragment", seen.index)
	}
	return nil
}

// errNotWritten: a target that answers did not take what was put.
var errNotWritten = errors.New("the target did not take it")

func remoteNamed(remotes []*remote, name string) *remote {
	for _, r := range remotes {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// rebuildFragments returns all fragments of an object, made from any k that are good
// and checked against what the manifest says of each.
func (r *Reader) rebuildFragments(ctx context.Context, o *object) ([][]byte, error) {
	sealed, err := r.fetchObject(ctx, o)
	if err != nil {
		return nil, err
	}
	coded, err := erasure.Code(o.Meta, sealed)
	if err != nil {
		return nil, err
	}
	for i, sum := range coded.Sums {
		if coded.Meta != o.Meta || sum != o.fragments[i].sum {
			return nil, damaged(-1, "%s: fragment %d coded anew is not what the manifest says", o.describe(), i)
		}
	}
	return coded.Fragments, nil
}
