package hotlog

import (
	"math"
	"time"
)

// spread keeps commits apart where the device stalls now and then, and stalls the more
// often the more commits there are. Entries that come independently of each other wait,
// in the mean, for half of c + v/c until the next commit begins, where c is the mean time
// from begin to begin and v the variance of what a commit takes; so c should not be less
// than the standard deviation. That holds if stalls come with a share of the commits.
// Where they come by the clock, fewer commits just meet them more often. Which it is
// shows in the wait itself, taken with and without: so both are tried, in turns of some
// commits, the one that did worse less and less often. It is a step function, part of pace.
type spread struct {
	mean, square float64      // of what a commit takes, in seconds and their square; moving averages
	arms         [2]spreadArm // without, and with a distance
	arm          int          // now
	commits      int          // left of this turn
	turns        int          // until the other one is tried
	patience     int          // turns between two tries
}

// spreadArm is what was seen: decaying sums over commits.
type spreadArm struct{ waited, entries float64 }

const (
	spreadShare      = 1.0 / 128 // of the newest commit in the moving averages
	spreadTurn       = 16        // commits
	spreadKept       = 0.998     // of an arm's sums at each of its commits
	spreadPatience   = 4         // turns before the first try, doubled by each that was in vain
	spreadPatientMax = 64
	spreadMax        = 5 * time.Millisecond
	spreadMin        = 1.5 // standard deviation over mean, below which nothing is tried
)

// apart is how long after the begin of a commit the next one begins at the earliest.
func (s spread) apart() time.Duration {
	if s.arm == 0 {
		return 0
	}
	return min(time.Duration(s.deviation()*1e9), spreadMax)
}

func (s spread) deviation() float64 { return math.Sqrt(max(s.square-s.mean*s.mean, 0)) }

// latency is how long an entry was in the log, in the mean.
func (a spreadArm) latency() float64 { return a.waited / a.entries }

// synced takes in a commit.
func (s spread) synced(c commitFacts) spread {
	took := c.took.Seconds()
	s.mean += (took - s.mean) * spreadShare
	s.square += (took*took - s.square) * spreadShare
	a := &s.arms[s.arm]
	a.waited, a.entries = a.waited*spreadKept+c.waited.Seconds(), a.entries*spreadKept+float64(c.entries)
	if s.commits--; s.commits > 0 {
		return s
	}
	s.commits = spreadTurn
	return s.next()
}

// next chooses the arm of the next turn.
func (s spread) next() spread {
	if s.patience == 0 || s.deviation() < spreadMin*s.mean {
		s.arm, s.turns, s.patience = 0, spreadPatience, spreadPatience
		return s
	}
	best := 0
	if s.arms[1].entries > 0 && s.arms[1].latency() < s.arms[0].latency() {
		best = 1
	}
	if s.arm != best { // a try that was in vain
		s.patience = min(2*s.patience, spreadPatientMax)
		s.arm, s.turns = best, s.patience
		return s
	}
	if s.turns--; s.turns <= 0 {
		s.arm, s.turns = 1-best, s.patience
	}
	return s
}
