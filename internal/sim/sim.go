package sim

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/logcore/logcore"
)

// Options configures a run.
type Options struct {
	// FaultsFor is the simulated length of the first phase; 0 means DefaultFaultsFor.
	FaultsFor time.Duration
	// Trace keeps what happened as lines; without it only their hash is kept.
	Trace bool
	// Moves simulates several shards, between which logs move, instead of one.
	Moves bool
	// Planted names a bug of Planted to be in the code, empty: none.
	Planted string

	flaws flaws
}

// DefaultFaultsFor is the default of Options.FaultsFor.
const DefaultFaultsFor = 6 * time.Second

// progressWithin bounds, in simulated time, how long a shard may take to make progress
// and to agree once the faults are over.
const progressWithin = 10 * time.Second

// Result is what a run came to.
type Result struct {
	Seed uint64
	// Err is the promise that was broken, nil when none was.
	Err    error
	Hash   uint64 // of the trace
	Trace  string // its lines, if they were kept
	Counts Counts
	Took   time.Duration // simulated
	// Progress is the simulated time that it took, after the faults, until every log was appended to and every
	// change of members was carried out.
	Progress time.Duration
}

// Run carries out the run of one seed. The result is a function of the seed and the
// options.
func Run(seed uint64, o Options) Result {
	if o.FaultsFor == 0 {
		o.FaultsFor = DefaultFaultsFor
	}
	if !o.flaws.plant(o.Planted) {
		return Result{Seed: seed, Err: fmt.Errorf("%w: sim: no bug is called %q", logcore.ErrInvalid, o.Planted)}
	}
	o.Moves = o.Moves || o.flaws.placeEarly || o.flaws.movesForget || o.flaws.createsAnywhere
	w := newWorld(seed, o)
	w.guardedPlay()
	w.count.Entries = uint64(len(w.oracle.committed))
	w.count.Seals = uint64(w.oracle.seals)
	for _, s := range w.others() {
		w.count.Add(s.count)
	}
	return Result{Seed: seed, Err: w.failure, Hash: w.trace.hash, Trace: w.trace.String(), Counts: w.count, Took: w.s.now, Progress: w.progressed}
}

// guardedPlay makes a failed run of a panic in the simulation itself: its seed is worth as much.
func (w *world) guardedPlay() {
	defer func() {
		if r := recover(); r != nil {
			w.failf("the simulation panics: %v\n%s", r, debug.Stack())
		}
	}()
	w.play()
}

// others are the shards besides the first.
func (w *world) others() []*world {
	if w.shards == nil || w.first != nil {
		return nil
	}
	return w.shards[1:]
}

func (w *world) play() {
	for _, n := range w.nodes {
		for _, s := range n.siblings() {
			s.start()
		}
	}
	for log := range w.plan.logs {
		for range w.plan.writers {
			c := &client{w: w, id: len(w.clients) + 1, log: fmt.Sprint("log", log), depth: w.plan.depth}
			w.clients = append(w.clients, c)
			w.s.after(w.s.between(0, time.Second), c.begin)
		}
	}
	w.archive.work()
	w.operator.work()
	w.trouble()
	for _, s := range w.others() {
		s.archive.work()
		s.trouble()
	}
	if w.shards != nil {
		w.wantMoves()
		for _, n := range w.nodes {
			w.place(n.id)
		}
	}
	w.s.run(w.plan.faultsFor, w.failed)
	if w.failed() {
		return
	}
	w.calmDown()
	for _, s := range w.others() {
		s.calmDown()
	}
	w.progress()
	if !w.failed() {
		w.fail(w.agreement())
	}
	for _, s := range w.others() {
		if !w.failed() {
			w.fail(s.agreement())
		}
	}
	if !w.failed() {
		w.fail(w.history.linearizable(w.oracle))
	}
}

// progress demands that every log is appended to again, and then that every member holds
// the same.
func (w *world) progress() {
	before := map[string]int{}
	for _, c := range w.clients {
		before[c.log] += c.acked
	}
	moved := func() bool {
		if w.operator.busy() || len(w.operator.broken) > 0 || !w.settledMoves() {
			return false
		}
		after := map[string]int{}
		for _, c := range w.clients {
			after[c.log] += c.acked
		}
		for log, n := range before {
			if after[log] < n+3 {
				return false
			}
		}
		return true
	}
	began := w.s.now
	w.s.run(began+progressWithin, func() bool { return w.failed() || moved() })
	w.progressed = w.s.now - began
	if !w.failed() && !moved() {
		w.failf("no progress within %v after the faults: %s", progressWithin, w.describe())
		return
	}
	w.plan.quiet = true
	w.s.run(w.s.now+progressWithin, func() bool { return w.failed() || w.settled() })
	if !w.failed() && !w.settled() {
		w.failf("the members don't agree within %v after the last request: %s", progressWithin, w.describe())
	}
}

// settled reports whether every member has applied, and holds durably, one and the same
// end of the log.
func (w *world) settled() bool {
	for _, s := range w.others() {
		if !s.settled() {
			return false
		}
	}
	for _, id := range w.voters() {
		n := w.nodes[id-1]
		if n.dead {
			continue
		}
		if n.member == nil || n.member.Committed() != w.oracle.last() || n.disk.stored != w.oracle.last() || n.disk.last != n.disk.stored {
			return false
		}
	}
	return true
}

func (w *world) describe() string {
	text := fmt.Sprintf("committed up to LSN %d;", w.oracle.last())
	text += fmt.Sprintf(" voters %v, operator busy: %v, machines to replace: %d;", w.voters(), w.operator.busy(), len(w.operator.broken))
	for _, n := range w.nodes {
		if n.gone {
			continue
		}
		if n.member == nil {
			text += fmt.Sprintf(" member %d is down (damaged: %v);", n.id, n.dead)
			continue
		}
		text += fmt.Sprintf(" member %d: term %d, leader %d, committed %d, disk %d to %d, durable %d;", n.id, n.member.Term(), n.member.Leader(), n.member.Committed(), n.disk.first, n.disk.last, n.disk.durable)
	}
	for _, s := range w.others() {
		text += fmt.Sprintf("\nshard %d: %s", s.shard, s.describe())
	}
	return text
}

// agreement reads every member's whole log, frame by frame, and holds it against the
// oracle: every acknowledged entry is on every living member.
func (w *world) agreement() error {
	for _, id := range w.voters() {
		n := w.nodes[id-1]
		if n.dead {
			continue
		}
		for lsn := n.disk.first; lsn <= n.disk.last; lsn++ {
			e, sum, err := n.disk.entry(lsn)
			if err != nil {
				if n.rotten() {
					break // found now, not before: nothing had read it
				}
				return fmt.Errorf("member %d: %w", n.id, err)
			}
			if err := w.oracle.see(n.id, e, sum); err != nil {
				return err
			}
		}
	}
	return nil
}
