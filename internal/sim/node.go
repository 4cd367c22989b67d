package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/replication"
)

// node is a machine: its disk and state store, which survive, and the member that runs
// on it, which doesn't.
type node struct {
	w     *world
	id    uint64
	disk  *disk
	store *store

	member  *replication.Member // nil while it is down
	life    int                 // rises with every start and crash
	seen    logcore.LSN         // committed entries of this life held against the oracle
	paused  bool
	backlog []func() // what waits for the end of a pause
	woken   bool
	leads   bool
	feeding bool          // it is being fed, or about to be
	dead    bool          // its disk is damaged: it can't be started any more
	older   bool          // its disk is older than it was
	gone    bool          // it was removed from the group
	clock   time.Duration // of its wall clock, ahead of the simulated time
	pace    float64       // of its ticks
}

// newNode returns an empty machine.
func newNode(w *world, id uint64) *node {
	n := &node{w: w, id: id, pace: 0.95 + 0.1*w.s.rng.Float64()}
	n.disk = newDisk(w, id)
	n.disk.flaws = w.flaws
	if id != 1 {
		n.disk.flaws.sealsAlone = false // one node's own end
	}
	n.store = &store{w: w, member: id, flaws: w.flaws}
	return n
}

// found makes the machine one of those that found the group.
func (n *node) found() {
	members := make([]uint64, n.w.plan.members)
	for i := range members {
		members[i] = uint64(i) + 1
	}
	n.store.state = replication.FoundingState(n.w.shard, n.id, members, incarnation)
}

// start makes the member from what the disk and the store hold.
func (n *node) start() {
	if n.member != nil || n.dead || n.gone || n.store.state.Member == 0 {
		return
	}
	n.life++
	n.seen = 0
	n.w.trace.note("member %d starts", n.id)
	if err := n.disk.recover(); err != nil {
		n.giveUp(err)
		return
	}
	life := n.life
	m, err := replication.NewMember(context.Background(), replication.MemberOptions{
		State: n.store.state, Disk: n.disk, Store: n.store, Net: port{n: n.w.net, from: n.id},
		Now:   func() time.Time { return startOfTime.Add(n.w.s.now) },
		Clock: logcore.NewClock(func() time.Time { return startOfTime.Add(n.w.s.now + n.clock) }),
		Rand:  rand.New(rand.NewPCG(n.w.s.rng.Uint64(), 1)), SegmentBytes: segmentBytes,
		Wake: func() { n.woken = true }, Logger: n.w.logger.With("member", n.id),
		OnSnapshot: n.snapshot,
	})
	if err != nil {
		n.giveUp(err)
		return
	}
	n.member = m
	n.do(func() {})
	n.tick(life, n.w.s.between(0, tickEvery))
}

// giveUp takes the machine out: with what its disk holds it can't go on. Only damage
// may lead there.
func (n *node) giveUp(err error) {
	n.w.trace.line("member %d can't start: %v", n.id, err)
	known := n.older && (errors.Is(err, replication.ErrStaleMember) || errors.Is(err, logcore.ErrCorrupt))
	if !known && !(errors.Is(err, logcore.ErrCorrupt) && n.rotten()) {
		n.w.failf("member %d can't start, though nothing damaged its disk: %w", n.id, err)
		return
	}
	n.w.trace.note("member %d is lost", n.id)
	if n.older {
		n.w.count.OlderFound++
	} else {
		n.w.count.RotFound++
	}
	n.dead = true
	n.w.operator.replace(n)
}

func (n *node) rotten() bool {
	for _, s := range n.disk.segs {
		if len(s.flips) > 0 {
			return true
		}
	}
	return false
}

func (n *node) tick(life int, in time.Duration) {
	n.w.s.after(in, func() {
		if n.life != life {
			return
		}
		if !n.paused { // a paused process has no ticks to catch up with
			n.do(func() { n.member.Tick() })
		}
		n.tick(life, time.Duration(float64(tickEvery)*n.pace))
	})
}

// do runs a step of the member and everything that follows from it. While the node is
// down it is forgotten, while it is paused it waits.
func (n *node) do(step func()) {
	switch {
	case n.member == nil || n.w.failed():
		return
	case n.paused:
		n.backlog = append(n.backlog, step)
		return
	}
	crashed := n.guarded(step)
	n.observeEntries() // also of a member that crashed: it may have answered before
	if crashed {
		n.crash()
		if n.w.shards != nil {
			n.restartIn(n.w.s.between(10*time.Millisecond, 1500*time.Millisecond))
		}
		return
	}
	n.observeState()
}

// guarded runs a step; a crash in the middle of it is reported, a bug ends the run.
func (n *node) guarded(step func()) (crashed bool) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if _, ok := r.(crash); ok {
			crashed = true
			return
		}
		n.w.failf("member %d panics: %v\n%s", n.id, r, debug.Stack())
	}()
	step()
	for more := true; more; more = n.woken {
		n.woken = false
		n.member.Advance()
	}
	return false
}

// observeEntries holds what the member has committed since against what every other
// member said.
func (n *node) observeEntries() {
	for c := n.member.Committed(); n.seen < c && !n.w.failed(); {
		lsn := max(n.seen+1, n.disk.first)
		e, sum, _, err := n.disk.truth(lsn)
		if err != nil {
			n.w.failf("member %d says LSN %d is committed and does not hold it: %w", n.id, lsn, err)
			return
		}
		n.w.fail(n.w.oracle.see(n.id, e, sum))
		n.seen = lsn
	}
}

func (n *node) observeState() {
	if n.w.failed() {
		return
	}
	m := n.member
	n.w.learn(m.Members())
	if leads := m.Leading(); leads != n.leads {
		n.leads = leads
		if leads {
			n.w.trace.note("member %d leads in term %d", n.id, m.Term())
			n.w.count.Elections++
			if other := n.w.leaders[m.Term()]; other != 0 && other != n.id {
				n.w.failf("two leaders in term %d: members %d and %d", m.Term(), other, n.id)
			}
			n.w.leaders[m.Term()] = n.id
		}
	}
	if err := m.Err(); err != nil {
		n.stopped(err)
	}
}

// stopped is the end of a member that gave up by itself. It is started again, as a
// supervisor would.
func (n *node) stopped(err error) {
	n.w.trace.note("member %d stops", n.id)
	n.w.trace.line("member %d stops: %v", n.id, err)
	if !n.expects(err) {
		n.w.failf("member %d stops, though its disk failed it in nothing: %w", n.id, err)
		return
	}
	n.crash()
	n.restartIn(n.w.s.between(50*time.Millisecond, time.Second))
}

// expects reports whether a fault explains that the member stopped.
func (n *node) expects(err error) bool {
	return n.disk.broken != nil || n.older && errors.Is(err, replication.ErrStaleMember) || errors.Is(err, logcore.ErrCorrupt) && n.rotten()
}

// crash ends the member; its disk keeps what it has, and a part of what was under way.
func (n *node) crash() {
	for _, s := range n.siblings() {
		s.crashAlone()
	}
}

func (n *node) crashAlone() {
	if n.member == nil {
		return
	}
	n.w.trace.note("member %d crashes", n.id)
	n.w.count.Crashes++
	n.life++
	n.member, n.leads, n.paused, n.backlog, n.woken, n.feeding = nil, false, false, nil, false, false
	n.disk.powerOff()
	n.store.powerOff()
}

func (n *node) restartIn(d time.Duration) {
	for _, s := range n.siblings() {
		life := s.life
		s.w.s.after(d, func() {
			if s.life == life {
				s.start()
			}
		})
	}
}

func (n *node) pause() {
	for _, s := range n.siblings() {
		if s.member != nil {
			s.paused = true
		}
	}
}

func (n *node) resume() {
	for _, s := range n.siblings() {
		s.resumeAlone()
	}
}

func (n *node) resumeAlone() {
	if !n.paused {
		return
	}
	n.paused = false
	backlog := n.backlog
	n.backlog = nil
	for _, step := range backlog {
		n.do(step)
	}
}
