package logsvc

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// load is how much is appended to a shard, as this member sees it applied: bytes a second, of which what
// is a minute old counts for a third.
type load struct {
	bytesPerSecond atomic.Uint64 // as math.Float64bits
	folded         uint64        // when it was measured last; only housekeep's
	at             time.Time
}

const loadDecay = time.Minute

// measure is called every now and then.
func (l *load) measure(folded uint64, now time.Time) {
	if l.at.IsZero() || folded < l.folded {
		l.at, l.folded = now, folded
		return
	}
	passed := now.Sub(l.at).Seconds()
	if passed <= 0 {
		return
	}
	rate := float64(folded-l.folded) / passed
	keep := math.Exp(-passed / loadDecay.Seconds())
	l.bytesPerSecond.Store(math.Float64bits(l.now()*keep + rate*(1-keep)))
	l.at, l.folded = now, folded
}

func (l *load) now() float64 { return math.Float64frombits(l.bytesPerSecond.Load()) }

// logLoad is what a log counts for besides what is appended to it: a new one will be used, and until
// then two that are created at once should not go to the same shard.
const logLoad = 4096

// logs returns how many logs are in each shard, those on their way included, as the directory says.
func (sh *Shards) logs() []int {
	count := make([]int, len(sh.all))
	sh.all[0].group.View(func(state *catalog.State) {
		for _, l := range state.Logs() {
			if _, placed := state.Placement(l.Name); !placed && !l.Gone {
				count[0]++
			}
		}
		for _, p := range state.Placements() {
			at := p.Target
			if at == logcore.NoShard {
				at = p.Shard
			}
			if int64(at) < int64(len(count)) {
				count[at]++
			}
		}
	})
	return count
}

// leastLoaded returns the shard that a new log goes to: the one with the lowest bytes a second plus logLoad
// for each log; of several that are alike the first. A shard without a leader is left out.
func (sh *Shards) leastLoaded() (best logcore.ShardID) {
	lowest := math.Inf(1)
	for i, n := range sh.logs() {
		s := sh.all[i]
		if s.group.Leader() == 0 || n >= catalog.LogsMax/2 {
			continue
		}
		if l := s.load.now() + logLoad*float64(n); l < lowest {
			best, lowest = logcore.ShardID(i), l
		}
	}
	return best
}
