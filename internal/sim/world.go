package sim

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/replication"
)

const (
	soleShard    = logcore.ShardID(7) // where there is one
	segmentBytes = 6 << 10            // small, so that a run has many
	incarnation  = 0x51
	tickEvery    = 40 * time.Millisecond // a quarter of the time that elections take leaves more for what they do
)

// startOfTime is what the simulated wall clocks say when a run begins.
var startOfTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is one run: everything in it belongs to one goroutine.
type world struct {
	seed   uint64
	s      *scheduler
	trace  *trace
	plan   plan
	flaws  flaws
	logger *slog.Logger

	nodes      []*node // member i+1 at i
	net        *network
	archive    *archive
	operator   *operator
	clients    []*client
	oracle     *oracle
	history    history
	leaders    map[uint64]uint64 // by term
	count      Counts
	failure    error
	newest     replication.Members
	progressed time.Duration
	hold       bool // nothing else goes wrong for a moment
	calm       bool // the faults are over

	shard  logcore.ShardID
	shards []*world // all of them, by shard; nil when there is one
	first  *world   // shard 0, which the run is; nil in itself
}

func newWorld(seed uint64, o Options) *world {
	w := &world{seed: seed, s: newScheduler(seed), flaws: o.flaws, oracle: newOracle(), leaders: map[uint64]uint64{}, shard: soleShard}
	w.trace = newTrace(o.Trace, func() time.Duration { return w.s.now })
	w.logger = slog.New(traceLogs{t: w.trace})
	w.plan = makePlan(w.s, o)
	w.net = newNetwork(w)
	w.archive, w.operator = &archive{w: w}, &operator{w: w}
	if o.Moves {
		w.shard = 0
		w.addShards()
		for _, o := range w.shards[1:] {
			o.addNodes()
		}
	}
	w.addNodes()
	w.trace.note("%d members, %d logs", uint64(w.plan.members), uint64(w.plan.logs))
	return w
}

func (w *world) addNodes() {
	for id := range uint64(w.plan.members) {
		n := newNode(w, id+1)
		n.found()
		w.nodes = append(w.nodes, n)
	}
}

// fail ends the run with a violation of what was promised; the first one counts.
func (w *world) fail(err error) {
	if w.first != nil {
		w.first.fail(err)
		return
	}
	if err != nil && w.failure == nil {
		w.failure = err
		w.trace.line("FAILED: %v", err)
	}
}

func (w *world) failf(format string, args ...any) { w.fail(fmt.Errorf(format, args...)) }

func (w *world) failed() bool {
	if w.first != nil {
		return w.first.failed()
	}
	return w.failure != nil
}
