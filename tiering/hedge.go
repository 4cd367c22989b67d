package tiering

import (
	"sync"
	"time"
)

// What a read does about answers that are late. A call is hedged, by asking one more
// target, once it has taken a quarter longer than 95 of 100 answers of its provider take:
// without the margin every twentieth call of a steady provider would be hedged for
// nothing. It is given up, and counts as a failure, after several times that.
const (
	hedgeUnknown   = 500 * time.Millisecond // while too few answers of a provider are known
	hedgeAfterMin  = 2 * time.Millisecond   // below it the scheduler's own hiccups would be hedged
	hedgeAfterMax  = 10 * time.Second
	giveUpFactor   = 4 // times what a hedge waits
	giveUpAfterMin = time.Second
)

// The budget of hedges: in the long run one for every ten calls, so that a provider that is
// slow does not make the others slow as well; some may be saved up.
const (
	hedgeShare = 0.1
	hedgeBurst = 8
)

// hedgeBudget is a token bucket that every call fills a little and every hedge empties.
type hedgeBudget struct {
	mu     sync.Mutex
	spent  float64 // guarded by mu: hedges less what calls have earned; 0 to hedgeBurst
	hedges int64   // guarded by mu
	calls  int64   // guarded by mu: that were no hedges
	denied int64   // guarded by mu: hedges that there was no budget for
}

// earn counts a call that is no hedge.
func (b *hedgeBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	b.spent = max(b.spent-hedgeShare, 0)
}

// spend takes a hedge from the budget, if there is one left.
func (b *hedgeBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent > hedgeBurst-1 {
		b.denied++
		return false
	}
	b.spent++
	b.hedges++
	return true
}

// unearn takes back what a hedge has earned as a call.
func (b *hedgeBudget) unearn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls--
	b.spent += hedgeShare
}

func (b *hedgeBudget) counts() (calls, hedges, denied int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls, b.hedges, b.denied
}

// hedgeAfter is how long an answer of about size bytes may take before another target is
// asked as well; known is false while too few answers are known for that.
func (p *provider) hedgeAfter(size int64) (after time.Duration, known bool) {
	usual, known := p.latency.p95(size)
	if !known {
		return hedgeUnknown, false
	}
	return min(max(usual+usual/4, hedgeAfterMin), hedgeAfterMax), true
}

// giveUpAfter is how long a call may take when others can be asked instead.
func giveUpAfter(hedge time.Duration) time.Duration { return max(giveUpFactor*hedge, giveUpAfterMin) }

// Pauses for which a target that was outrun is asked last.
const (
	avoidMin = 250 * time.Millisecond
	avoidMax = 30 * time.Second
)

// outrun notes that a call was cut off unanswered because others had answered. The target
// may be slow or hang; reads prefer others for a while, and then try it again.
func (r *remote) outrun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.avoidTill = time.Now().Add(min(avoidMin<<min(r.cutOffs, 10), avoidMax))
	r.cutOffs++
}

// answered notes that the target answered a read.
func (r *remote) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutOffs, r.avoidTill = 0, time.Time{}
}

// standing says how much is to be expected of a target now: 0 = an answer, or it is time
// to find out whether there is one; 1 = it was slow; 2 = it failed, or will refuse.
func (r *remote) standing(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.lastErr != nil && now.Before(r.breaker.openTill):
		return 2
	case now.Before(r.avoidTill):
		return 1
	}
	return 0
}
