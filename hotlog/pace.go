package hotlog

import "time"

// pace is the feedback controller of group commit: it decides when the next commit
// begins. It is a step function: all it knows of time, of the device and of the load
// it is told, and nothing happens but that a value is returned.
//
// An idle log commits at once. Behind a commit, the callers it served are about to
// come back, all within a moment; a commit that begins with the first of them makes
// the others wait for two. So it waits for those it has reason to expect (cohort:
// as many as were in the log when the last commit ended), as long as waiting pays: one
// more entry saves that entry a whole commit, but delays the pending ones by the time
// until it comes. How long that is, the silence since the newest arrival says best.
// Whether any come at all, the waits before say: where most were in vain, because the
// callers don't depend on each other, only one commit in pacePauses tries again.
type pace struct {
	sync    time.Duration // what a commit takes, a moving average
	cohort  int           // entries in the log when the last commit ended: those it held and those that came meanwhile
	vain    float64       // share of waits that brought nothing, a moving average
	skipped int           // commits since waiting was tried last
	late    bool          // the first entry of the last commit came too late to stay awake for it: the processor is somebody else's then
	spread  spread        // keeps commits apart, where that pays
}

const (
	// paceReturnShare: for the first caller to come back the committer stays awake for
	// that share of a commit.
	paceReturnShare = 8
	// No silence below paceQuietMin means anything, because callers are held up by each
	// other and by the scheduler, unless that is much of a commit.
	paceQuietMin   = 4 * time.Microsecond
	paceQuietShare = 32
	pacePauses     = 16
)

// waits reports whether to wait at all.
func (p pace) waits() bool { return p.vain < 0.5 || p.skipped >= pacePauses-1 }

// paceInput is what step decides on.
type paceInput struct {
	pending int           // entries that wait
	full    bool          // no more would go with them
	ended   time.Duration // since the last commit ended
	quiet   time.Duration // since the newest of pending came, or as ended when none came since
	begun   time.Duration // since the last commit began
}

// paceDecision says what to do, and why.
type paceDecision uint8

const (
	pacePark  paceDecision = iota // nothing waits, and nothing is expected at once
	paceWait                      // for more, no longer than said
	paceApart                     // whatever comes, unless it is full, as long as said
	paceFull                      // begin: the batch is full
	paceAll                       // begin: all that were expected are here
	paceIdle                      // begin: the log was idle
	paceQuiet                     // begin: waiting for more does not pay
)

var paceNames = [...]string{"park", "wait", "apart", "full", "all", "idle", "quiet"}

// begins reports whether a commit begins.
func (d paceDecision) begins() bool { return d >= paceFull }

// step decides; with paceWait, for how long when nothing comes, with paceApart, for how long.
func (p pace) step(in paceInput) (paceDecision, time.Duration) {
	missing := p.cohort - in.pending
	if in.pending == 0 {
		if rest := p.sync/paceReturnShare - in.ended; missing > 0 && rest > 0 && !p.late {
			return paceWait, rest
		}
		return pacePark, 0
	}
	pays := max(p.sync/time.Duration(in.pending+1), min(p.sync/paceQuietShare, paceQuietMin))
	switch rest := pays - in.quiet; {
	case in.full:
		return paceFull, 0
	case missing > 0 && in.begun < p.spread.apart():
		return paceApart, p.spread.apart() - in.begun
	case in.ended >= p.sync:
		return paceIdle, 0
	case missing <= 0:
		return paceAll, 0
	case rest <= 0 || !p.waits():
		return paceQuiet, 0
	default:
		return paceWait, min(rest, p.sync-in.ended)
	}
}

// commitFacts is what a commit teaches.
type commitFacts struct {
	entries, came int           // those it held, and those that came meanwhile
	first         time.Duration // from the end of the commit before to the first of its entries; negative when that came before
	waitedFrom    int           // entries there were when it was first put off; 0 = it was not
	took          time.Duration // from its begin to its durability
	sinceLast     time.Duration // from the begin of the commit before to its begin
}

// synced takes in a commit.
func (p pace) synced(c commitFacts) pace {
	p.cohort = c.entries + c.came
	p.late = c.first > p.sync/paceReturnShare
	p.spread = p.spread.synced(c.took, c.sinceLast, p.sync > 0 && c.took > spreadStall*p.sync)
	if p.sync == 0 {
		p.sync = c.took
	}
	// A stall must not pass for what a commit takes: one moves the average by an eighth at most.
	p.sync += min(c.took-p.sync, p.sync) / 8
	switch {
	case c.waitedFrom == 0:
		p.skipped++
	case c.entries > c.waitedFrom:
		p.vain, p.skipped = p.vain*7/8, 0
	default:
		p.vain, p.skipped = p.vain*7/8+1.0/8, 0
	}
	return p
}
