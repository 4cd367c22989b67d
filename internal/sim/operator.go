package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/logcore/logcore/replication"
)

// nodesMax bounds the members that a run has had: every one that comes is another one.
const nodesMax = 64

// operator changes the members, as somebody with the cluster commands would: one change
// at a time, asked for again until it is done.
type operator struct {
	w        *world
	old, new *node // to be removed, to be added; either may be nil
	since    time.Duration
	asking   bool
	broken   []*node // machines that are to be replaced as soon as there is time
}

const operatorEvery = 60 * time.Millisecond

func (o *operator) busy() bool { return o.old != nil || o.new != nil }

// replace puts an empty machine in the place of one whose disk is lost.
func (o *operator) replace(n *node) {
	o.broken = append(o.broken, n)
}

// change begins a change that nothing forces: a replacement, a member more, a member fewer.
func (o *operator) change() {
	if o.busy() || len(o.broken) > 0 || len(o.w.nodes) >= nodesMax-4 {
		return
	}
	voters := o.w.voters()
	for _, id := range voters {
		if o.w.nodes[id-1].damaged() {
			return // what is left is needed
		}
	}
	var old *node
	if n := len(voters); n > 0 {
		old = o.w.nodes[voters[o.w.s.intn(n)]-1]
	}
	switch way := o.w.s.intn(3); {
	case old == nil:
	case way == 0 && len(voters) < 5:
		o.begin(nil, true)
	case way == 1 && len(voters) > 1:
		o.begin(old, false)
	default:
		o.begin(old, true)
	}
}

func (o *operator) begin(old *node, add bool) {
	o.old, o.since = old, o.w.s.now
	if old != nil {
		o.w.trace.note("the operator removes member %d", old.id)
	}
	if add {
		o.new = newNode(o.w, uint64(len(o.w.nodes))+1)
		o.w.nodes = append(o.w.nodes, o.new)
		o.w.trace.note("the operator adds member %d", o.new.id)
	}
}

func (o *operator) work() {
	o.w.s.after(operatorEvery, func() {
		if !o.busy() && len(o.broken) > 0 && len(o.w.nodes) < nodesMax {
			o.begin(o.broken[0], true)
			o.broken = o.broken[1:]
		}
		if o.busy() && !o.asking {
			o.ask()
		}
		o.work()
	})
}

// ask does the next step of the change, at whoever leads.
func (o *operator) ask() {
	n := o.w.leader()
	if n == nil {
		return
	}
	o.asking = true
	over := func() { o.asking = false }
	o.w.s.after(700*time.Millisecond, over)
	o.w.net.request(n.id, func(n *node) {
		now := n.member.Members()
		if o.done(now) {
			if over(); o.known(now) {
				o.end()
			}
			return
		}
		if o.new != nil && o.new.member == nil && o.new.life == 0 && !o.new.gone {
			o.new.store.state = replication.JoiningState(o.w.shard, o.new.id, incarnation, now)
			o.w.s.after(0, o.new.start)
		}
		change, heir := o.next(now, n.id)
		err := n.member.Submit(replication.Request{Bytes: 100, Prepare: func(p *replication.Proposer) error {
			if heir != 0 {
				return p.TransferLeader(heir)
			}
			return p.ChangeMembers(change)
		}, Done: func(err error) {
			o.w.trace.line("operator: %+v, transfer to %d, at member %d: %v", change, heir, n.id, err)
			over()
			o.refused(err)
		}})
		if err != nil {
			over()
		}
	})
}

// refused gives up what a quorum can't be risked for, unless a machine is to be replaced.
func (o *operator) refused(err error) {
	if errors.Is(err, replication.ErrLeads) {
		o.w.failf("the operator asked a leader to remove itself")
	}
	if !errors.Is(err, replication.ErrQuorum) || o.old == nil || o.old.dead {
		return
	}
	o.old = nil
	if o.new == nil {
		o.end()
	}
}

// next is the next step: a learner comes first; a leader that is to go lets another voter
// lead before.
func (o *operator) next(now replication.Members, leader uint64) (c replication.MemberChange, heir uint64) {
	isNew := o.new != nil && slices.Contains(now.Voters, o.new.id)
	switch {
	case o.new != nil && !now.Has(o.new.id):
		c.AddLearners = []uint64{o.new.id}
		return c, 0
	case o.new != nil && !isNew:
		c.Promote = []uint64{o.new.id}
	}
	if o.old == nil || !now.Has(o.old.id) {
		return c, 0
	}
	if o.old.id != leader {
		c.Remove = []uint64{o.old.id}
		return c, 0
	}
	for _, id := range now.Voters {
		if len(c.Promote) == 0 && id != leader {
			heir = id
		}
	}
	return c, heir
}

func (o *operator) done(now replication.Members) bool {
	if len(now.Outgoing) > 0 || o.old != nil && now.Has(o.old.id) {
		return false
	}
	if o.new == nil {
		return true
	}
	return slices.Contains(now.Voters, o.new.id)
}

// known reports whether every voter says that it has left the old members behind. Before, some
// may still need their votes: until then the change is under way, and the old ones must not be shut down.
func (o *operator) known(now replication.Members) bool {
	for _, id := range now.Voters {
		n := o.w.nodes[id-1]
		if n.dead {
			continue
		}
		if n.member == nil || n.member.Members().LSN < now.LSN {
			return false
		}
	}
	return true
}

// end lets the removed member run on for a while: it must not disturb anybody.
func (o *operator) end() {
	o.w.count.MemberChanges++
	o.w.trace.note("the change of members is done")
	if old := o.old; old != nil {
		old.gone = true
		o.w.s.after(o.w.s.between(0, time.Second), old.crash)
	}
	o.old, o.new, o.asking = nil, nil, false
}

// learn notes a configuration that a member has applied.
func (w *world) learn(m replication.Members) {
	if w.newest.Voters == nil || m.LSN > w.newest.LSN {
		w.newest = m
	}
}

// voters are those of the newest configuration that any member has ever applied.
func (w *world) voters() []uint64 { return w.newest.Voters }

// mayLose reports whether a minority is still whole enough for one more machine to lose its disk.
func (w *world) mayLose(victim *node) bool {
	if w.operator.busy() || victim.gone || victim.damaged() {
		return false
	}
	voters, bad, is := w.voters(), 0, false
	for _, id := range voters {
		if n := w.nodes[id-1]; n.damaged() {
			bad++
		}
		is = is || id == victim.id
	}
	return is && bad+1 <= (len(voters)-1)/2
}

// damaged reports whether the machine's disk is not what it was.
func (n *node) damaged() bool { return n.dead || n.older || n.rotten() }
