package logsvc

import (
	"context"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// heal makes shards and directory agree that were restored from archives which end at different moments: a log may then
// be in two shards, in none, or unknown to the directory. The number of moves says which is the newest. Nothing of it
// can happen otherwise, and a member that lags might think so: so only one that is alone, as after a restore,
// and leads every shard looks for it.
func (p *placer) heal(ctx context.Context) {
	for _, s := range p.sh.all {
		if !s.group.Leading() || !s.alone() {
			return
		}
	}
	first := p.sh.all[0]
	best := p.roots()
	var steps []step
	for name, r := range best {
		placed := first.placement(name)
		shard := r.at.group.Shard()
		switch {
		case placed.Name == "" && shard != 0:
			steps = append(steps, step{in: first, command: catalog.Command{Op: catalog.OpEnter, Name: name, Shard: shard}})
		case placed.Name != "" && placed.IsRoot() && r.Gen > placed.Gen:
			steps = append(steps, step{in: first, command: catalog.Command{Op: catalog.OpSettle, Name: name, Gen: r.Gen, Shard: shard, LSN: r.index}})
		}
	}
	steps = append(steps, p.nowhere(best)...)
	for _, s := range p.sh.all {
		steps = append(steps, p.strays(s, best)...)
	}
	p.take(ctx, steps)
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
func (p *placer) nowhere(best map[string]root) (steps []step) {
	first := p.sh.all[0]
	var all []catalog.Placement
	first.group.View(func(state *catalog.State) { all = state.Placements() })
	for _, placed := range all {
		if _, somewhere := best[placed.Root]; somewhere || !placed.Settled() || int64(placed.Shard) >= int64(len(p.sh.all)) {
			continue
		}
		if !p.sh.anywhere(placed.Name) {
			// Not even its creation was archived. Roots are refused as long as they have branches.
			steps = append(steps, step{in: first, command: catalog.Command{Op: catalog.OpDrop, Name: placed.Name, Gen: placed.Gen}})
			continue
		}
		if !placed.IsRoot() {
			continue
		}
		if have := p.sh.all[placed.Shard].knows(placed.Name); have.ok && have.Gone && have.Gen == placed.Gen {
			// The directory does not even know that it left.
			steps = append(steps, step{in: first, command: catalog.Command{Op: catalog.OpSettle, Name: placed.Name, Gen: placed.Gen + 1, Shard: have.To, LSN: have.index}})
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
func (p *placer) lost(placed catalog.Placement) []step {
	target := p.sh.all[placed.Shard]
	for _, s := range p.sh.all {
		if have := s.knows(placed.Name); have.ok && have.Gone && have.Gen+1 == placed.Gen && s.archivedThrough(have.LeftLSN-have.Base) {
			if st, ok := p.place(placed, have, s, target); ok {
				return []step{st}
			}
		}
	}
	return nil
}

// strays returns the steps that end families of a shard which are newer elsewhere, and enter the branches that the
// directory does not know.
func (p *placer) strays(s *Service, best map[string]root) (steps []step) {
	first := p.sh.all[0]
	s.group.View(func(state *catalog.State) {
		for _, l := range state.Logs() {
			top := state.Root(l)
			newest := best[top.Name]
			switch {
			case l.Gone:
			case l == top && newest.at != nil && newest.at != s && newest.Gen > l.Gen:
				steps = append(steps, step{in: s, command: catalog.Command{Op: catalog.OpLeave, Log: l.ID, Gen: l.Gen + 1, Shard: newest.at.group.Shard()}})
			case l != top && newest.at == s && s != first:
				parent, err := state.ByID(l.Parent)
				if err == nil && first.placement(l.Name).Name == "" && first.placement(parent.Name).Name != "" {
					steps = append(steps, step{in: first, command: catalog.Command{Op: catalog.OpEnter, Name: l.Name, Root: top.Name, Writer: parent.Name, LSN: logcore.LSN(l.BranchLSN)}})
				}
			}
		}
	})
	return steps
}
