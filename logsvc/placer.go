package logsvc

import (
	"context"
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
	sh    *Shards
	moves Moves
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
	return &placer{sh: sh, moves: sh.moves}
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
	steps, pending := p.moves.Next()
	p.take(ctx, steps)
	return pending
}

// take takes steps, as many at once as there are: the groups' queues are their limit.
func (p *placer) take(ctx context.Context, steps []MoveStep) {
	ctx, cancel := context.WithTimeout(ctx, placeWithin)
	defer cancel()
	var running sync.WaitGroup
	for _, st := range steps {
		running.Go(func() {
			err := p.propose(ctx, st)
			p.sh.all[st.In].log.Debug("logsvc: placing a log", "log", st.Command.Name, "step", st.Command.Op, "shard", st.In, "err", err)
		})
	}
	running.Wait()
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

// sweep gives the names of branches up that were deleted in their shards.
func (p *placer) sweep(ctx context.Context) {
	first := p.sh.all[0]
	if !first.group.Leading() {
		return
	}
	var all []catalog.Placement
	first.group.View(func(state *catalog.State) { all = state.Placements() })
	var steps []MoveStep
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
			steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpDrop, Name: placed.Name, Gen: placed.Gen, Epoch: at.epochFloor()}})
		}
	}
	p.take(ctx, steps)
}

// propose takes a step. Leases live in the memory of who leads: the one that takes a log in gives its writer
// a fresh one.
func (p *placer) propose(ctx context.Context, st MoveStep) error {
	s := p.sh.all[st.In]
	return s.do(ctx, func(pr *replication.Proposer) error {
		proposed, err := PrepareMoveStep(pr, st)
		if err != nil || !proposed {
			return err
		}
		s.leases.enter(pr.Term(), pr.Since())
		for _, id := range st.Writers {
			s.leases.renew(id)
		}
		return nil
	})
}

// moveShard is a service as MoveShard.
type moveShard struct{ *Service }

func (s moveShard) View(f func(*catalog.State))            { s.group.View(f) }
func (s moveShard) Leading() bool                          { return s.group.Leading() }
func (s moveShard) ArchiveKeepsUp() bool                   { return s.archiveKeepsUp() }
func (s moveShard) ArchivedThrough(index logcore.LSN) bool { return s.archivedThrough(index) }

// knows returns what this member's catalog of the shard has of the log of that name, also one that is gone.
func (s *Service) knows(name string) known { return knows(moveShard{s}, name) }

// epochFloor returns the highest epoch of a log that was deleted in this shard, or whose name was given up here.
func (s *Service) epochFloor() logcore.Epoch { return epochFloor(moveShard{s}) }

// placement returns what the directory has of a log; this is the first shard's service.
func (s *Service) placement(name string) catalog.Placement { return placementOf(moveShard{s}, name) }

// now returns the time of the last entry that is applied.
func (s *Service) now() logcore.HLC { return timeOf(moveShard{s}) }

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
