package sim

import (
	"errors"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// Several shards, and logs that move between them. Every machine has a member of each shard; each shard is a world of its own,
// with its own disks, network, archive and faults, over one scheduler. A machine that crashes, or pauses, does so in all of
// them. What is due about a move the production code decides, from the catalogs of the machine's members.

const (
	shardsMax  = 3
	placeEvery = 25 * time.Millisecond
	placeAgain = 10 * time.Millisecond
)

// addShards gives a world, which becomes shard 0, others beside it.
func (w *world) addShards() {
	n := 2 + w.s.intn(shardsMax-1)
	w.plan.members, w.plan.logs = 3, 2
	var faults []fault
	for _, f := range w.plan.faults {
		switch f.name {
		case "bit rot", "lost disk", "older disk", "change of members": // of one shard's members alone: another simulation's
		default:
			faults = append(faults, f)
		}
	}
	if len(faults) == 0 {
		faults = allFaults[:1]
	}
	w.plan.faults = faults
	w.plan.faultEvery *= time.Duration(n) // each shard has its own, and a machine is in all of them
	w.shards = []*world{w}
	for i := 1; i < n; i++ {
		o := &world{seed: w.seed, s: w.s, trace: w.trace, logger: w.logger, flaws: w.flaws, plan: w.plan, shard: logcore.ShardID(i), first: w,
			oracle: newOracle(), leaders: map[uint64]uint64{}}
		t := w.oracle
		o.oracle.logs, o.oracle.byName, o.oracle.byTx, o.oracle.opened = t.logs, t.byName, t.byTx, t.opened
		o.oracle.shard = o.shard
		o.net, o.archive, o.operator = newNetwork(o), &archive{w: o}, &operator{w: o}
		w.shards = append(w.shards, o)
	}
	for _, o := range w.shards {
		o.shards = w.shards
	}
}

// machine returns the members of one machine, by shard.
func (w *world) machine(id uint64) []*node {
	out := make([]*node, len(w.shards))
	for i, o := range w.shards {
		out[i] = o.nodes[id-1]
	}
	return out
}

// siblings are the members of the same machine, n among them.
func (n *node) siblings() []*node {
	if n.w.shards == nil {
		return []*node{n}
	}
	return n.w.machine(n.id)
}

// awake reports whether a machine runs, with all its members.
func awake(machine []*node) bool {
	for _, n := range machine {
		if n.member == nil || n.paused {
			return false
		}
	}
	return true
}

// moves is what a machine knows, for the production code to decide.
func moves(machine []*node) (m logsvc.Moves) {
	for _, n := range machine {
		m = append(m, moveShard{n})
	}
	return m
}

// moveShard is a member as logsvc.MoveShard.
type moveShard struct{ n *node }

func (s moveShard) View(f func(*catalog.State))            { s.n.member.View(f) }
func (s moveShard) Leading() bool                          { return s.n.member.Leading() }
func (s moveShard) ArchiveKeepsUp() bool                   { return !s.n.w.archive.down }
func (s moveShard) ArchivedThrough(index logcore.LSN) bool { return s.n.w.archive.covered() >= index }

// place has a machine take the steps that are due, again and again.
func (w *world) place(id uint64) {
	w.s.after(w.s.between(placeAgain, placeEvery), func() {
		if machine := w.machine(id); awake(machine) && !w.failed() {
			steps, _ := moves(machine).Next()
			if w.flaws.placeEarly {
				steps = append(steps, unleft(machine)...)
			}
			for _, st := range steps {
				w.take(machine[st.In], st)
			}
		}
		w.place(id)
	})
}

func (w *world) take(n *node, st logsvc.MoveStep) {
	n.do(func() {
		proposed := false
		err := n.member.Submit(replication.Request{Bytes: 1 << 10, Prepare: func(p *replication.Proposer) (err error) {
			if st.In == 0 && p.Catalog().Shards() < len(w.shards) {
				return nil
			}
			proposed, err = logsvc.PrepareMoveStep(p, st)
			return err
		}, Done: func(err error) {
			if err == nil && proposed {
				w.trace.note("shard %d: step %d of a move is done", uint64(st.In), uint64(st.Command.Op))
				if st.Command.Op == catalog.OpPlace {
					w.count.Moves++
				}
			}
		}})
		if err != nil {
			w.trace.line("machine %d: a step of a move: %v", n.id, err)
		}
	})
}

// unleft are steps that place logs which have not left where they are: a planted bug.
func unleft(machine []*node) (steps []logsvc.MoveStep) {
	var pending []catalog.Placement
	machine[0].member.View(func(s *catalog.State) { pending = s.Pending() })
	for _, p := range pending {
		if p.Shard == logcore.NoShard || p.Target == logcore.NoShard || !machine[p.Target].member.Leading() {
			continue
		}
		machine[p.Shard].member.View(func(s *catalog.State) {
			l, err := s.ByName(p.Name)
			if err != nil || l.Gen+1 != p.Gen {
				return
			}
			copied, err := catalog.DecodeCheckpoint(s.EncodeCheckpoint())
			if err != nil {
				return
			}
			if root, err := copied.ByID(l.ID); err == nil {
				root.Gone, root.To, root.LeftLSN = true, p.Target, s.LSN+root.Base+1
				if family, err := copied.Departed(root, p.Shard); err == nil {
					steps = append(steps, logsvc.MoveStep{In: p.Target, After: s.Time, Command: catalog.Command{Op: catalog.OpPlace, Log: l.ID, Gen: p.Gen, Placed: string(family.EncodeCheckpoint())}})
				}
			}
		})
	}
	return steps
}

// wantMoves has somebody move a log to another shard, now and then, until the faults are over.
func (w *world) wantMoves() {
	w.s.after(w.s.between(40*time.Millisecond, 250*time.Millisecond), func() {
		if w.calm {
			return
		}
		log, to := w.clients[w.s.intn(len(w.clients))].log, logcore.ShardID(w.s.intn(len(w.shards)))
		at := w.leader()
		if at == nil || w.s.chance(0.2) {
			at = w.anyThere()
		}
		w.net.request(at.id, func(n *node) {
			err := n.member.Submit(replication.Request{Bytes: 1 << 10, Prepare: func(p *replication.Proposer) error {
				if have := p.Catalog().Shards(); have < len(w.shards) { // the service's own first entry
					_, err := p.Command(catalog.Command{Op: catalog.OpShards, Shards: uint32(len(w.shards))})
					return err
				}
				_, err := logsvc.PrepareMove(p, log, to, nil)
				return err
			}, Done: func(err error) {
				if err == nil {
					w.trace.note("a log is to move to shard %d", uint64(to))
				}
			}})
			if err != nil {
				w.trace.line("machine %d: no move: %v", n.id, err)
			}
		})
		w.wantMoves()
	})
}

// settledMoves reports whether nothing is under way, as far as the machine knows that leads shard 0.
func (w *world) settledMoves() bool {
	if w.shards == nil {
		return true
	}
	n := w.leader()
	if n == nil {
		return false
	}
	pending := 0
	n.member.View(func(s *catalog.State) { pending = len(s.Pending()) })
	return pending == 0
}

// request carries a client's request to a machine, for the shard that its log is in, as the machine knows. refused is told when it
// is in none.
func (c *client) request(do func(*node), refused func(*node, error)) {
	c.requestAt(c.node, do, refused)
}

func (c *client) requestAt(to uint64, do func(*node), refused func(*node, error)) {
	w := c.w
	if w.shards == nil {
		w.net.request(to, do)
		return
	}
	if w.net.clients[to-1] || w.s.chance(w.net.drop/2) {
		return
	}
	w.s.after(w.net.delay(), func() {
		machine := w.machine(to)
		if !awake(machine) {
			return
		}
		at, err := moves(machine).Find(c.log)
		if err != nil {
			refused(machine[0], err)
			return
		}
		n := machine[at]
		n.do(func() { do(n) })
	})
}

// foldMove is fold of what moves logs. The truth about a log is one for all shards: it leaves one before it is in another,
// and everything of it is where it is at that moment.
func (o *oracle) foldMove(c catalog.Command, lsn logcore.LSN) error {
	l := o.logs[c.Log]
	switch {
	case l == nil:
		return errors.New("a log moves that was never created")
	case c.Op == catalog.OpLeave:
		if l.gone || l.shard != o.shard || c.Gen != l.gen+1 {
			return o.misplaced("leaves", l, lsn)
		}
		l.gone, l.left = true, lsn+l.base
	default:
		if !l.gone || c.Gen != l.gen+1 {
			return o.misplaced("is placed", l, lsn)
		}
		l.gone, l.shard, l.gen, l.base = false, o.shard, c.Gen, 0
		if l.left >= lsn {
			l.base = l.left - lsn
		}
	}
	return nil
}
