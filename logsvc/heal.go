package logsvc

import (
	"context"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// healPasses bounds the passes before the service serves: what takes more goes on beside it.
const healPasses = 64

// healFirst heals until nothing is left to do, before anybody is served: what is put right could otherwise be written to where it
// is no more.
func (p *placer) healFirst(ctx context.Context) {
	for range healPasses {
		if !p.heal(ctx) {
			return
		}
	}
}

// heal makes shards and directory agree that were restored from archives which end at different moments: a log may then
// be in two shards, in none, or unknown to the directory. The number of moves says which is the newest. Nothing of it
// can happen otherwise, and a member that lags might think so: so only one that is alone, as after a restore,
// and leads every shard looks for it. It reports whether there was anything to do.
func (p *placer) heal(ctx context.Context) bool {
	for _, s := range p.sh.all {
		if !s.group.Leading() || !s.alone() {
			return false
		}
	}
	first := p.sh.all[0]
	best := p.roots()
	var steps []MoveStep
	for name, r := range best {
		placed := first.placement(name)
		shard := r.at.group.Shard()
		switch {
		case placed.Name == "" && shard != 0:
			steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpEnter, Name: name, Shard: shard}})
		case placed.Name != "" && placed.IsRoot() && r.Gen > placed.Gen:
			steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpSettle, Name: name, Gen: r.Gen, Shard: shard, LSN: r.index}})
		}
	}
	steps = append(steps, p.nowhere(best)...)
	steps = append(steps, p.behind()...)
	steps = append(steps, p.unknown()...)
	for _, s := range p.sh.all {
		steps = append(steps, p.strays(s, best)...)
	}
	p.take(ctx, steps)
	return len(steps) > 0
}

// root is the newest that is known of a family.
type root struct {
	known
	at *Service
}

// roots returns the newest of every family that is in a shard.
func (p *placer) roots() map[string]root {
	best := map[string]root{}
	for _, s := range p.sh.all {
		s.group.View(func(state *catalog.State) {
			for _, l := range state.Logs() {
				if have, ok := best[l.Name]; l.Parent == 0 && !l.Gone && (!ok || l.Gen > have.Gen) {
					best[l.Name] = root{known{*l, true, state.LSN, state.Time}, s}
				}
			}
		})
	}
	return best
}

// nowhere returns the steps for families that have left one shard and are not in the next, and for those that are lost.
func (p *placer) nowhere(best map[string]root) (steps []MoveStep) {
	first := p.sh.all[0]
	var all []catalog.Placement
	first.group.View(func(state *catalog.State) { all = state.Placements() })
	for _, placed := range all {
		if _, somewhere := best[placed.Root]; somewhere || !placed.Settled() || int64(placed.Shard) >= int64(len(p.sh.all)) {
			continue
		}
		if !p.sh.anywhere(placed.Name) {
			// Not even its creation was archived. Roots are refused as long as they have branches.
			steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpDrop, Name: placed.Name, Gen: placed.Gen}})
			continue
		}
		if !placed.IsRoot() {
			continue
		}
		if have := p.sh.all[placed.Shard].knows(placed.Name); have.ok && have.Gone && have.Gen == placed.Gen {
			// The directory does not even know that it left.
			steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpSettle, Name: placed.Name, Gen: placed.Gen + 1, Shard: have.To, LSN: have.index}})
			continue
		}
		steps = append(steps, p.lost(placed)...)
	}
	return steps
}

// anywhere reports whether any shard knows a log of that name, gone or not.
func (sh *Shards) anywhere(name string) bool {
	return slices.ContainsFunc(sh.all, func(s *Service) bool { return s.knows(name).ok })
}

// lost returns the step that places a family again where the directory has it, from what it left behind.
func (p *placer) lost(placed catalog.Placement) []MoveStep {
	for _, s := range p.sh.all {
		if have := s.knows(placed.Name); have.ok && have.Gone && have.Gen+1 == placed.Gen && s.archivedThrough(have.LeftLSN-have.Base) {
			if st, ok := p.moves.place(placed, have, s.group.Shard(), placed.Shard); ok {
				return []MoveStep{st}
			}
		}
	}
	return nil
}

// behind returns the steps for families of which the directory knows more than the shards do: the archives of those ended
// earlier. Where a family is that was about to come, or go, by moves that are lost, the moves are made again, one at a time, until it is
// where the directory has it, under that number.
func (p *placer) behind() (steps []MoveStep) {
	first := p.sh.all[0]
	var all []catalog.Placement
	first.group.View(func(state *catalog.State) { all = state.Placements() })
	// After the directory: in what is whole, whatever it says has left its trace by now.
	traces := p.traces()
	for _, placed := range all {
		if !placed.IsRoot() || placed.Shard == logcore.NoShard || int64(placed.Shard) >= int64(len(p.sh.all)) {
			continue
		}
		goal := placed.Gen // where it is at placed.Shard
		if !placed.Settled() {
			goal--
		}
		last, found := traces[placed.Name]
		switch {
		case !found, last.Gen >= goal:
		case last.Gone && last.at.archivedThrough(last.LeftLSN-last.Base) && int64(last.To) < int64(len(p.sh.all)):
			if st, ok := p.moves.place(catalog.Placement{Name: placed.Name, Gen: last.Gen + 1}, last.known, last.at.group.Shard(), last.To); ok {
				steps = append(steps, st)
			}
		case !last.Gone:
			to := p.hop(last.at.group.Shard(), placed.Shard, goal-last.Gen)
			steps = append(steps, MoveStep{In: last.at.group.Shard(), Command: catalog.Command{Op: catalog.OpLeave, Log: last.ID, Gen: last.Gen + 1, Shard: to}, After: first.now()})
		}
	}
	return steps
}

// traces returns, by name, the newest that any shard has of a family: where it is, or where it was last.
func (p *placer) traces() map[string]root {
	newest := map[string]root{}
	for _, s := range p.sh.all {
		s.group.View(func(state *catalog.State) {
			for _, l := range state.Logs() {
				have, ok := newest[l.Name]
				if l.Parent == 0 && (!ok || l.Gen > have.Gen || l.Gen == have.Gen && !l.Gone) {
					newest[l.Name] = root{known{*l, true, state.LSN, state.Time}, s}
				}
			}
		})
	}
	return newest
}

// hop returns the shard that a family leaves for when it has so many moves to make, this one included, and the last is to
// end in goal.
func (p *placer) hop(from, goal logcore.ShardID, moves uint64) logcore.ShardID {
	if from != goal && moves != 2 {
		return goal
	}
	for i := range p.sh.all {
		if other := logcore.ShardID(i); other != from && other != goal {
			return other
		}
	}
	return p.other(from)
}

// other returns a shard that is not that one; there are two at least.
func (p *placer) other(shard logcore.ShardID) logcore.ShardID {
	if shard == 0 {
		return 1
	}
	return 0
}

// unknown returns the steps that give up the names of branches which the directory has and their family has not: their shard's
// archive ended before they were created there.
func (p *placer) unknown() (steps []MoveStep) {
	first := p.sh.all[0]
	var all []catalog.Placement
	first.group.View(func(state *catalog.State) { all = state.Placements() })
	for _, placed := range all {
		if placed.IsRoot() || !placed.Settled() || placed.Shard == logcore.NoShard || int64(placed.Shard) >= int64(len(p.sh.all)) {
			continue
		}
		at := p.sh.all[placed.Shard]
		if root := at.knows(placed.Root); root.ok && !root.Gone && root.Gen == placed.Gen && !at.knows(placed.Name).ok {
			steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpDrop, Name: placed.Name, Gen: placed.Gen}})
		}
	}
	return steps
}

// strays returns the steps that end families of a shard which are newer elsewhere, and enter the branches that the
// directory does not know.
func (p *placer) strays(s *Service, best map[string]root) (steps []MoveStep) {
	first := p.sh.all[0]
	s.group.View(func(state *catalog.State) {
		for _, l := range state.Logs() {
			top := state.Root(l)
			newest := best[top.Name]
			switch {
			case l.Gone:
			case l == top && newest.at != nil && newest.at != s && newest.Gen > l.Gen:
				steps = append(steps, MoveStep{In: s.group.Shard(), Command: catalog.Command{Op: catalog.OpLeave, Log: l.ID, Gen: l.Gen + 1, Shard: newest.at.group.Shard()}})
			case l != top && newest.at == s && s != first:
				parent, err := state.ByID(l.Parent)
				if err == nil && first.placement(l.Name).Name == "" && first.placement(parent.Name).Name != "" {
					steps = append(steps, MoveStep{Command: catalog.Command{Op: catalog.OpEnter, Name: l.Name, Root: top.Name, Writer: parent.Name, LSN: logcore.LSN(l.BranchLSN)}})
				}
			}
		}
	})
	return steps
}
