package hotlog

import "time"

// lanes decides in how many pieces, all under way at once, a large batch is written.
// Whether a device gains by that is learned from what it does: every choice is tried
// now and then, and the one that took least for a byte is taken else. It is a step
// function like pace.
type lanes struct {
	cost  [len(laneCounts)]float64 // nanoseconds a byte, a moving average; 0 = not tried yet
	turns uint64
}

// laneCounts are the choices.
var laneCounts = [...]int{1, 2, 4}

const (
	// laneBytes is the smallest piece. A write of half as much takes about as long as the
	// whole, so that several would be slower, on any device measured (see ADR 0007).
	laneBytes = 256 << 10
	// laneTrials: one in so many large batches tries another choice than the best.
	laneTrials = 16
)

// choose returns an index into laneCounts for a write of so many bytes.
func (l lanes) choose(bytes int) int {
	possible := 1
	for possible < len(laneCounts) && bytes >= laneCounts[possible]*laneBytes {
		possible++
	}
	best := 0
	for i, c := range l.cost[:possible] {
		if c == 0 {
			return i
		}
		if c < l.cost[best] {
			best = i
		}
	}
	if l.turns%laneTrials == 0 {
		return int(l.turns/laneTrials) % possible
	}
	return best
}

// learn takes in how long a write with that choice took. Small ones teach nothing.
func (l lanes) learn(choice, bytes int, took time.Duration) lanes {
	if bytes < laneCounts[1]*laneBytes {
		return l
	}
	l.turns++
	cost := max(float64(took)/float64(bytes), 1e-6)
	if old := l.cost[choice]; old != 0 {
		cost = old + min(cost-old, old)/8 // one stall counts for no more than twice the usual
	}
	l.cost[choice] = cost
	return l
}
