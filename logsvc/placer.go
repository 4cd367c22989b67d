package logsvc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/replication"
)

// placer makes the shards what the directory says. Every member has one; each does what is to be done in the
// shards that it leads, and knows what the others have done from their logs, of which it is a member
// too. So there is nobody whose end could leave a log between two shards: whoever leads next goes on.
//
// Each step is an entry of one shard, and is refused there unless its time has come, so it does not
// matter how often, or how late, it is tried:
//
//	OpMove     in shard 0: what is wanted.                From here on it will be done.
//	OpLeave    in the shard that the family leaves: it takes nothing of it any more.
//	OpPlace    in the one it goes to: it has the family, as it was when it left, and takes appends.
//	OpSettle   in shard 0: done.
//
// A log that is created in another shard than 0 is entered (OpEnter) in shard 0, created (OpCreate) there and settled;
// the name of a branch that was deleted is given up (OpDrop) in shard 0.
type placer struct {
	sh *Shards
}

const (
	// placeAgain is how soon what could not be done yet is tried again, placeLook how soon the placer looks by
	// itself for something to do, placePause what it rests between two looks at a busy shard.
	placeAgain  = 10 * time.Millisecond
	placeLook   = time.Second
	placePause  = 2 * time.Millisecond
	placeWithin = 5 * time.Second
)

func newPlacer(sh *Shards) *placer {
	return &placer{sh: sh}
}

func (p *placer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.heal(ctx)
	looked := time.Now()
	for {
		changed := p.sh.all[0].group.Changed()
		next := placeLook
		if p.pass(ctx) {
			next = placeAgain
		}
		timer.Reset(next)
		select {
		case <-changed:
			// Shard 0 may be busy with its own logs: look at most so often.
			select {
			case <-time.After(placePause):
			case <-ctx.Done():
				return
			}
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		// By the clock and not by the timer: a shard 0 that is always busy begins that anew all the time.
		if next == placeLook && time.Since(looked) >= placeLook {
			p.sweep(ctx)
			p.heal(ctx)
			looked = time.Now()
		}
	}
}

// pass does what can be done now, and reports whether there is anything that is not settled.
func (p *placer) pass(ctx context.Context) bool {
	var pending []catalog.Placement
	p.sh.all[0].group.View(func(state *catalog.State) { pending = state.Pending() })
	if len(pending) == 0 {
		return false
	}
	var steps []step
	for _, want := range pending {
		if st, ok := p.step(want); ok {
			steps = append(steps, st)
		}
	}
	p.take(ctx, steps)
	return true
}

// take takes steps, as many at once as there are: the groups' queues are their limit.
func (p *placer) take(ctx context.Context, steps []step) {
	ctx, cancel := context.WithTimeout(ctx, placeWithin)
	defer cancel()
	var running sync.WaitGroup
	for _, st := range steps {
		running.Go(func() {
			err := p.propose(ctx, st)
			st.in.log.Debug("logsvc: placing a log", "log", st.command.Name, "step", st.command.Op, "shard", st.in.group.Shard(), "err", err)
		})
	}
	running.Wait()
}

// step is one of a placement, in a shard that this member leads.
type step struct {
	in      *Service
	command catalog.Command
	after   logcore.HLC // it comes after that time
	writers []logcore.LogID
}

// step returns the next step towards a placement, if it is this member's to take.
func (p *placer) step(want catalog.Placement) (step, bool) {
	switch {
	case want.Creating:
		return p.createBranch(want)
	case int64(want.Target) >= int64(len(p.sh.all)):
		return step{}, false // another start of this process will have it
	case want.Shard == logcore.NoShard:
		return p.createRoot(want)
	}
	first, target, source := p.sh.all[0], p.sh.all[want.Target], p.sh.all[want.Shard]
	if have := target.knows(want.Name); have.ok && have.Gen >= want.Gen {
		return step{in: first, command: catalog.Command{Op: catalog.OpSettle, Name: want.Name, Gen: want.Gen, LSN: have.index}, after: have.time}, first.group.Leading()
	}
	have := source.knows(want.Name)
	switch {
	case !have.ok || have.Gen+1 != want.Gen:
		return step{}, false // this member does not know yet
	case !have.Gone && !source.archiveKeepsUp():
		return step{}, false
	case !have.Gone:
		return step{in: source, command: catalog.Command{Op: catalog.OpLeave, Log: have.ID, Gen: want.Gen, Shard: want.Target}, after: first.now()}, source.group.Leading()
	case !source.archivedThrough(have.LeftLSN - have.Base), !target.group.Leading():
		return step{}, false
	}
	return p.place(want, have, source, target)
}

// archivedThrough reports whether the archive, if there is one, has the shard up to an index, and asks for it if not. What a
// log has in the shard that it leaves is archived before it goes on in another: else what is restored after a
// disaster might have what came later, and not what came before.
func (s *Service) archivedThrough(index logcore.LSN) bool {
	if s.opts.Archive == nil || s.archived() >= index {
		return true
	}
	s.coverage.ask(index)
	return false
}

// leaveLagMax is how far the archive of a shard may be behind when a log leaves it: until the archive has all of it, the log takes
// no appends.
const leaveLagMax = 10 * time.Second

func (s *Service) archiveKeepsUp() bool {
	return s.opts.Archive == nil || s.opts.Archive.Status(s.group.Shard()).Lag <= leaveLagMax
}

// place returns the step that places a family that has left.
func (p *placer) place(want catalog.Placement, have known, source, target *Service) (st step, ok bool) {
	var family *catalog.State
	var err error
	source.group.View(func(state *catalog.State) {
		var root *catalog.Log
		if root, err = state.ByID(have.ID); err == nil {
			family, err = state.Departed(root, source.group.Shard())
		}
	})
	if err != nil {
		return step{}, false
	}
	st = step{in: target, after: have.time}
	for _, l := range family.Logs() {
		if l.WriterOpen {
			st.writers = append(st.writers, l.ID)
		}
	}
	st.command = catalog.Command{Op: catalog.OpPlace, Log: have.ID, Gen: want.Gen, Placed: string(family.EncodeCheckpoint())}
	return st, true
}

// createRoot returns the step that creates a log in its shard, or says that it is there.
func (p *placer) createRoot(want catalog.Placement) (step, bool) {
	first, target := p.sh.all[0], p.sh.all[want.Target]
	// A branch of that name, which left and is deleted since, is not it.
	if have := target.knows(want.Name); have.ok && (!have.Gone || have.Parent == 0) {
		return step{in: first, command: catalog.Command{Op: catalog.OpSettle, Name: want.Name, Gen: want.Gen, LSN: have.index}, after: have.time}, first.group.Leading()
	}
	return step{in: target, command: catalog.Command{Op: catalog.OpCreate, Name: want.Name, Epoch: first.epochFloor(), Durability: want.Durability}, after: first.now()}, target.group.Leading()
}

// createBranch returns the step that creates a branch where its family is, or says that it is there, or that it
// can't be any more: then neither can it later.
func (p *placer) createBranch(want catalog.Placement) (step, bool) {
	first := p.sh.all[0]
	at := p.sh.home(want.Name)
	if at == nil {
		return step{}, false
	}
	have := at.knows(want.Name)
	if have.ok && !have.Gone {
		return step{in: first, command: catalog.Command{Op: catalog.OpSettle, Name: want.Name, Gen: want.Gen, LSN: have.index}, after: have.time}, first.group.Leading()
	}
	c := catalog.Command{Op: catalog.OpCreate, Name: want.Name, Epoch: first.epochFloor(), LSN: want.BranchLSN, Durability: want.Durability}
	var err error
	var index logcore.LSN
	at.group.View(func(state *catalog.State) {
		index = state.LSN
		var parent *catalog.Log
		if parent, err = state.ByName(want.Parent); err == nil {
			c.Parent = parent.ID
			err = state.CheckFork(parent, want.BranchLSN)
		}
	})
	parent := first.placement(want.Parent)
	switch {
	case errors.Is(err, logcore.ErrTrimmed), errors.Is(err, logcore.ErrLogNotFound) && parent.Settled() && index >= parent.Seen:
		return step{in: first, command: catalog.Command{Op: catalog.OpDrop, Name: want.Name, Gen: want.Gen}}, first.group.Leading()
	case err != nil:
		return step{}, false
	}
	return step{in: at, command: c, after: first.now()}, at.group.Leading()
}

// sweep gives the names of branches up that were deleted in their shards.
func (p *placer) sweep(ctx context.Context) {
	first := p.sh.all[0]
	if !first.group.Leading() {
		return
	}
	var all []catalog.Placement
	first.group.View(func(state *catalog.State) { all = state.Placements() })
	var steps []step
	for _, placed := range all {
		if placed.IsRoot() || !placed.Settled() || int64(placed.Shard) >= int64(len(p.sh.all)) {
			continue
		}
		// Seen there once, and not now, in a state that is no older: deleted.
		at := p.sh.all[placed.Shard]
		if root := at.knows(placed.Root); !root.ok || root.Gone {
			continue // this member lags, or the directory was restored and does
		}
		// One that is gone is of another family, or of an older time of this one.
		if have := at.knows(placed.Name); (!have.ok || have.Gone) && have.index >= placed.Seen {
			steps = append(steps, step{in: first, command: catalog.Command{Op: catalog.OpDrop, Name: placed.Name, Gen: placed.Gen, Epoch: at.epochFloor()}})
		}
	}
	p.take(ctx, steps)
}

// propose takes a step. Leases live in the memory of who leads: the one that takes a log in gives its writer
// a fresh one.
func (p *placer) propose(ctx context.Context, st step) error {
	s := st.in
	return s.do(ctx, func(pr *replication.Proposer) error {
		pr.After(st.after)
		c := st.command
		if c.Op == catalog.OpCreate || c.Op == catalog.OpPlace {
			if shard := s.group.Shard(); !pr.Catalog().Owned(shard) {
				if _, err := pr.Command(catalog.Command{Op: catalog.OpOwn, Shard: shard}); err != nil {
					return err
				}
			}
		}
		if c.Op == catalog.OpCreate {
			c.Log = pr.Catalog().NextLog()
		}
		if err := pr.Catalog().Check(c, pr.Catalog().LSN+1); err != nil {
			s.log.Debug("logsvc: a step of a placement is not due", "step", c.Op, "log", c.Name, "err", err)
			pr.WaitFor(pr.Catalog().LSN)
			return nil // what was proposed before it stays
		}
		if _, err := pr.Command(c); err != nil {
			return err
		}
		s.leases.enter(pr.Term(), pr.Since())
		for _, id := range st.writers {
			s.leases.renew(id)
		}
		return nil
	})
}

// known is what the applied catalog of a shard has of a log.
type known struct {
	catalog.Log
	ok    bool
	index logcore.LSN // of the state
	time  logcore.HLC
}

// knows returns what this member's catalog of the shard has of the log of that name, also one that is gone.
func (s *Service) knows(name string) (k known) {
	s.group.View(func(state *catalog.State) {
		k.index, k.time = state.LSN, state.Time
		if l, ok := state.Named(name); ok {
			k.Log, k.ok = *l, true
		}
	})
	return k
}

// epochFloor returns the highest epoch of a log that was deleted in this shard, or whose name was given up here.
func (s *Service) epochFloor() (floor logcore.Epoch) {
	s.group.View(func(state *catalog.State) { floor = state.EpochFloor() })
	return floor
}

// placement returns what the directory has of a log; this is the first shard's service.
func (s *Service) placement(name string) (p catalog.Placement) {
	s.group.View(func(state *catalog.State) { p, _ = state.Placement(name) })
	return p
}

// home returns the service of the shard in which a log's family is, nil while it is between two.
func (sh *Shards) home(name string) *Service {
	p := sh.all[0].placement(name)
	if p.Shard == logcore.NoShard || p.Target != logcore.NoShard || int64(p.Shard) >= int64(len(sh.all)) {
		return nil
	}
	return sh.all[p.Shard]
}

// now returns the time of the last entry that is applied.
func (s *Service) now() (t logcore.HLC) {
	s.group.View(func(state *catalog.State) { t = state.Time })
	return t
}

// until waits until f, which is asked again whenever a shard gets on, is true.
func (sh *Shards) until(ctx context.Context, s *Service, f func() bool) error {
	tick := time.NewTicker(placeAgain)
	defer tick.Stop()
	for {
		changed := s.group.Changed()
		if f() {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("shard %d: %w", s.group.Shard(), context.Cause(ctx))
		}
	}
}
