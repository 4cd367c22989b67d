package tiering

import (
	"context"
	"slices"
	"time"

	"github.com/logcore/logcore"
)

// commit writes the next record of the manifest: build makes it from the newest state
// (nil = nothing to do). On a nil return it is whole on a majority of the targets, no
// newer archiver had claimed the archive by then, and the state shows it. A record
// whose outcome is open is finished before any other: one number, one record.
func (a *Archiver) commit(ctx context.Context, build func(s *state) *record) error {
	select {
	case a.commitSlot <- struct{}{}:
		defer func() { <-a.commitSlot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.background.over() {
		return errEnded
	}
	if a.pending != nil {
		if err := a.retry(ctx, "finish a manifest record", func() error { return a.finishPending(ctx) }); err != nil {
			return err
		}
	}
	r := build(a.state.Load())
	if r == nil {
		return nil
	}
	r.incarnation = a.o.Incarnation
	encoded, err := encodeRecord(ctx, a.o.Keys, r)
	if err != nil {
		return err
	}
	next, err := a.state.Load().apply(r, hashOf(encoded))
	if err != nil {
		return err
	}
	if next.covered() < a.state.Load().covered() {
		return logcore.ErrInvalid // our own bug; nothing was written
	}
	a.setPending(&stored{r, encoded, hashOf(encoded)})
	a.setElectorates(a.state.Load().targets, r.targets)
	return a.retry(ctx, "write a manifest record", func() error { return a.finishPending(ctx) })
}

// finishPending tries once to get the pending record onto a majority. Called under
// commitSlot.
func (a *Archiver) finishPending(ctx context.Context) error {
	p := a.pending
	if err := a.step("record"); err != nil {
		return err
	}
	remotes := a.all()
	errs := a.round(ctx, func(ctx context.Context, i int) error { return a.putRecord(ctx, remotes[i], *p) })
	for _, err := range errs {
		if isFatal(err) {
			return err
		}
	}
	if err := a.quorum("manifest record "+p.key(), errs); err != nil {
		return err
	}
	if err := a.step("fence"); err != nil {
		return err
	}
	if _, err := a.checkFence(ctx, errs); err != nil {
		return err
	}
	if err := a.step("publish"); err != nil {
		return err
	}
	next, err := a.state.Load().apply(p.record, p.hash)
	if err != nil {
		return err
	}
	// Commit point: the record is on a majority and no newer archiver could have missed it.
	if p.kind == recordRollup {
		a.retireRecords(a.chain)
		a.chain = nil
	}
	a.chain = append(a.chain, *p)
	a.setElectorates(next.targets)
	a.publish(next)
	a.setPending(nil) // after the state shows its objects: the collector looks the other way round
	return nil
}

// setPending notes the record whose outcome is open, and the objects it names: whatever
// becomes of who made them, they are no orphans until it is decided. Called under commitSlot.
func (a *Archiver) setPending(s *stored) {
	a.pending = s
	if s == nil {
		a.openObjects.Store(nil)
		return
	}
	names := make(map[objectName]bool, len(s.objects))
	for _, o := range s.objects {
		names[o.name()] = true
	}
	a.openObjects.Store(&names)
}

// isOpen reports whether the pending record names an object.
func (a *Archiver) isOpen(n objectName) bool {
	names := a.openObjects.Load()
	return names != nil && (*names)[n]
}

// putRecord writes a record to a target and reads it back.
func (a *Archiver) putRecord(ctx context.Context, r *remote, s stored) (err error) {
	end := r.startWriting(s.key())
	defer func() { end(err) }()
	if !a.state.Load().inUse(r.Name) && !slices.Contains(s.targets, r.Name) {
		return errFormer
	}
	if err := a.step("record-put"); err != nil {
		return err
	}
	return a.putOwn(ctx, r, s.key(), s.encoded, func() error { return a.step("record-read-back") })
}

// publish makes a state the newest one and wakes who waits for it. Called under
// commitSlot, after the chain was set.
func (a *Archiver) publish(next *state) {
	old, before := a.state.Load(), a.Covered()
	a.state.Store(next)
	chain := a.chain
	a.chainView.Store(&chain) // later appends are beyond its length
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notePlaces(old, next)
	now := time.Now()
	for _, n := range next.retired {
		if _, ok := a.retiredAt[n]; !ok {
			a.retiredAt[n] = now
		}
	}
	if next.covered() > before {
		close(a.covered)
		a.covered = make(chan struct{})
	}
	poke(a.wake)
	poke(a.tidy)
}

// retireRecords notes the records that a rollup makes superfluous.
func (a *Archiver) retireRecords(chain []stored) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, s := range chain {
		a.oldRecord[s.key()] = oldRecord{since: now}
	}
}
