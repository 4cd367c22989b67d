package sim

import (
	"time"

	"github.com/logcore/logcore/replication"
)

// fault is something that goes wrong. It takes care of its own end.
type fault struct {
	name   string
	weight int
	happen func(*world)
}

var allFaults = []fault{
	{"crash", 6, func(w *world) { w.crashOne(w.any()) }},
	{"power cut", 1, (*world).powerCut},
	{"crash of the leader", 3, (*world).crashLeader},
	{"crash in a write", 4, func(w *world) { w.any().disk.tearIn = 1 + w.s.intn(4) }},
	{"crash after a save", 3, func(w *world) { w.any().store.crashAfter = true }},
	{"crash in a save", 2, func(w *world) { w.any().store.crash = true }},
	{"crash in a cut", 1, func(w *world) { w.any().disk.tearCut = true }},
	{"pause", 3, func(w *world) { w.pauseOne(w.any()) }},
	{"partition", 4, (*world).partition},
	{"one-way", 3, (*world).oneWay},
	{"isolated leader", 3, (*world).isolateLeader},
	{"lossy network", 4, (*world).lossy},
	{"slow network", 2, (*world).slowNetwork},
	{"clock jump", 2, (*world).clockJump},
	{"slow disk", 2, (*world).slowDisk},
	{"sync error", 2, func(w *world) { w.any().disk.syncFail = 1 + w.s.intn(20) }},
	{"full disk", 2, (*world).fullDisk},
	{"bit rot", 1, (*world).bitRot},
	{"lost disk", 1, (*world).loseDisk},
	{"older disk", 2, (*world).olderDisk},
	{"change of members", 3, func(w *world) { w.operator.change() }},
	{"transfer", 2, (*world).transfer},
	{"archive down", 1, (*world).archiveDown},
}

// trouble makes faults happen until the first phase is over.
func (w *world) trouble() {
	total := 0
	for _, f := range w.plan.faults {
		total += f.weight
	}
	w.s.after(w.s.between(w.plan.faultEvery/2, w.plan.faultEvery*3/2), func() {
		if w.calm {
			return
		}
		if w.hold {
			w.trouble()
			return
		}
		at := w.s.intn(total)
		for _, f := range w.plan.faults {
			if at -= f.weight; at < 0 {
				w.trace.note("fault: " + f.name)
				w.count.Faults++
				f.happen(w)
				break
			}
		}
		w.trouble()
	})
}

func (w *world) any() *node { return w.nodes[w.s.intn(len(w.nodes))] }

// anyThere returns a member that nobody has removed.
func (w *world) anyThere() *node {
	for {
		if n := w.any(); !n.gone {
			return n
		}
	}
}

// until undoes a fault after a while, unless the calm phase has undone all of them.
func (w *world) until(d time.Duration, undo func()) {
	w.s.after(d, func() {
		if !w.calm {
			undo()
		}
	})
}

func (w *world) crashOne(n *node) {
	n.crash()
	n.restartIn(w.s.between(10*time.Millisecond, 1500*time.Millisecond))
}

func (w *world) crashLeader() {
	if n := w.leader(); n != nil {
		w.crashOne(n)
	}
}

// leader returns a member that believes to lead, the one of the newest term first.
func (w *world) leader() (found *node) {
	for _, n := range w.nodes {
		if n.leads && (found == nil || n.member.Term() > found.member.Term()) {
			found = n
		}
	}
	return found
}

// powerCut takes every member down at once.
func (w *world) powerCut() {
	for _, n := range w.nodes {
		w.crashOne(n)
	}
}

func (w *world) pauseOne(n *node) {
	if n.member == nil || n.paused {
		return
	}
	w.trace.note("member %d pauses", n.id)
	w.count.Pauses++
	n.pause()
	life := n.life
	w.until(w.s.between(20*time.Millisecond, 3*time.Second), func() {
		if n.life == life {
			n.resume()
		}
	})
}

// partition splits the members into two camps, each with its clients.
func (w *world) partition() {
	w.count.Partitions++
	camp := make([]bool, len(w.nodes))
	for i := range camp {
		camp[i] = w.s.chance(0.5)
	}
	w.split(func(from, to int) bool { return camp[from] != camp[to] })
}

// oneWay lets a member send and not receive, or receive and not send.
func (w *world) oneWay() {
	w.count.Partitions++
	one, deaf := w.s.intn(len(w.nodes)), w.s.chance(0.5)
	w.split(func(from, to int) bool { return deaf && to == one || !deaf && from == one })
}

// isolateLeader cuts off whoever leads, while clients still reach it.
func (w *world) isolateLeader() {
	if n := w.leader(); n != nil {
		w.count.Partitions++
		w.split(func(from, to int) bool { return from == int(n.id)-1 || to == int(n.id)-1 })
	}
}

func (w *world) split(cut func(from, to int) bool) {
	for from := range w.nodes {
		for to := range w.nodes {
			w.net.cut[from][to] = from != to && cut(from, to)
		}
	}
	w.until(w.s.between(200*time.Millisecond, 4*time.Second), w.net.heal)
}

func (w *world) lossy() {
	w.net.drop, w.net.repeat = 0.3*w.s.rng.Float64(), 0.3*w.s.rng.Float64()
	w.until(w.s.between(200*time.Millisecond, 3*time.Second), func() { w.net.drop, w.net.repeat = 0, 0 })
}

func (w *world) slowNetwork() {
	w.net.slow = 5 + 60*w.s.rng.Float64()
	w.until(w.s.between(200*time.Millisecond, 2*time.Second), func() { w.net.slow = 1 })
}

// clockJump moves a wall clock by up to two hours, and mostly back some time later.
func (w *world) clockJump() {
	n := w.any()
	w.count.ClockJumps++
	n.clock += w.s.between(-2*time.Hour, 2*time.Hour)
	w.trace.note("member %d: clock is %d ms off", n.id, uint64(n.clock.Milliseconds()))
	if w.s.chance(0.7) {
		w.s.after(w.s.between(100*time.Millisecond, 2*time.Second), func() { n.clock = 0 })
	}
}

func (w *world) slowDisk() {
	n := w.any()
	w.count.SlowDisks++
	n.disk.slow = 10 + 200*w.s.rng.Float64()
	w.until(w.s.between(200*time.Millisecond, 3*time.Second), func() { n.disk.slow = 1 })
}

func (w *world) fullDisk() {
	n := w.any()
	w.count.FullDisks++
	n.disk.fullness = true
	w.until(w.s.between(200*time.Millisecond, 2*time.Second), func() { n.disk.fullness = false })
}

// bitRot and loseDisk damage a minority's disks at most.
func (w *world) bitRot() {
	n := w.any()
	if !w.mayLose(n) {
		return
	}
	if lsn := n.disk.rot(); lsn != 0 {
		w.count.Rotted++
		w.trace.note("member %d: a bit of LSN %d flips", n.id, uint64(lsn))
	}
}

// loseDisk takes a machine's disk away, with all that the member remembers. It comes
// back as another member.
func (w *world) loseDisk() {
	n := w.any()
	if !w.mayLose(n) {
		return
	}
	w.count.LostDisks++
	w.trace.note("member %d loses its disk", n.id)
	n.crash()
	n.disk.erase()
	n.dead = true
	w.s.after(w.s.between(50*time.Millisecond, time.Second), func() { w.operator.replace(n) })
}

// transfer asks the leader to let another voter lead.
func (w *world) transfer() {
	n, voters := w.leader(), w.voters()
	if n == nil {
		return
	}
	w.count.Transfers++
	to := voters[w.s.intn(len(voters))]
	w.trace.note("member %d is asked to let %d lead", n.id, to)
	w.net.request(n.id, func(n *node) {
		err := n.member.Submit(replication.Request{Bytes: 10, Prepare: func(p *replication.Proposer) error { return p.TransferLeader(to) }, Done: func(error) {}})
		if err != nil {
			w.trace.line("member %d: no transfer: %v", n.id, err)
		}
	})
}

func (w *world) archiveDown() {
	w.archive.down = true
	w.until(w.s.between(200*time.Millisecond, 2*time.Second), func() { w.archive.down = false })
}

// calmDown ends every fault, and with it the first phase.
func (w *world) calmDown() {
	w.calm = true
	w.trace.note("the faults are over")
	w.easeOff()
	for _, n := range w.nodes {
		if n.member == nil {
			n.restartIn(0)
		}
	}
}

// easeOff undoes what is wrong now, and what was about to go wrong.
func (w *world) easeOff() {
	w.net.heal()
	w.archive.down = false
	for _, n := range w.nodes {
		d := n.disk
		d.slow, d.fullness, d.syncFail, d.tearCut, d.tearIn = 1, false, 0, false, 0
		n.store.crash, n.store.crashAfter = false, false
		n.resume()
	}
}
