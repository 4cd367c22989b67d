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
// Where they come by the clock, fewer commits just meet them more often. Which it is the
// stalls themselves tell, once some commits were kept apart and others were not: a share
// of the commits stalls in both ways, or a share of the time. So the other way is tried
// for a turn of some commits, seldom once that is clear. It is a step function, part of pace.
type spread struct {
	mean, square float64      // of what a commit takes, in seconds and their square; moving averages
	ways         [2]spreadWay // without, and with a distance
	way          int          // now
	commits      int          // left of this turn
	turns        int          // until the other way is tried
}

// spreadWay is what was seen of one way: decaying sums.
type spreadWay struct{ commits, stalls, seconds float64 }

const (
	spreadStall = 4         // times what a commit takes is a stall
	spreadShare = 1.0 / 128 // of the newest commit in the moving averages
	spreadKept  = 1 - 1/2e3 // of the sums at each commit
	spreadTurn  = 16        // commits
	spreadTry   = 8         // turns between two tries
	spreadRare  = 64        // the same where it is clear which way is right
	spreadSure  = 3.0       // evidence from which it is clear: one in twenty
	spreadBias  = 1.0       // evidence without which no distance is kept
	spreadMin   = 1.5       // standard deviation over mean, below which nothing is tried
	spreadMax   = 5 * time.Millisecond
)

// apart is how long after the begin of a commit the next one begins at the earliest.
func (s spread) apart() time.Duration {
	if s.way == 0 {
		return 0
	}
	return min(time.Duration(s.deviation()*1e9), spreadMax)
}

func (s spread) deviation() float64 { return math.Sqrt(max(s.square-s.mean*s.mean, 0)) }

// synced takes in a commit.
func (s spread) synced(took, sinceLast time.Duration, stalled bool) spread {
	seconds := took.Seconds()
	if s.mean == 0 {
		s = spread{mean: seconds, square: seconds * seconds, commits: spreadTurn, turns: spreadTry}
	}
	s.mean += (seconds - s.mean) * spreadShare
	s.square += (seconds*seconds - s.square) * spreadShare
	for i, w := range s.ways {
		s.ways[i] = spreadWay{w.commits * spreadKept, w.stalls * spreadKept, w.seconds * spreadKept}
	}
	w := &s.ways[s.way]
	w.commits++
	w.seconds += min(sinceLast, took+spreadMax).Seconds() // nobody saw the device while it was idle
	if stalled {
		w.stalls++
	}
	if s.commits--; s.commits <= 0 {
		s.commits = spreadTurn
		s = s.next()
	}
	return s
}

// evidence is the logarithm of how much likelier the stalls were seen where they were if
// they come with the commits than if they come with time.
func (s spread) evidence() (e float64) {
	a, b := s.ways[0], s.ways[1]
	for _, w := range s.ways {
		if w.stalls > 0 && w.seconds > 0 {
			e += w.stalls * math.Log(w.commits/(a.commits+b.commits)*(a.seconds+b.seconds)/w.seconds)
		}
	}
	return e
}

// next chooses the way of the next turn.
func (s spread) next() spread {
	if s.deviation() < spreadMin*s.mean {
		s.way, s.turns = 0, spreadTry
		return s
	}
	best, e := 0, s.evidence()
	if e > spreadBias {
		best = 1
	}
	switch s.turns--; {
	case s.way != best: // a try, or what was the best until now
		s.way, s.turns = best, spreadTry
		if math.Abs(e) > spreadSure {
			s.turns = spreadRare
		}
	case s.turns <= 0:
		s.way = 1 - best
	}
	return s
}
