package tiering

import (
	"cmp"
	"slices"
	"time"
)

// candidate is a fragment that can be asked for.
type candidate struct {
	index    int
	remote   *remote
	standing int           // of the target
	cost     float64       // of getting it
	slow     bool          // its provider's answers take much longer than the others'
	hedge    time.Duration // how long its answer may take before another is asked
	again    bool          // it was given up once and now has all the time that a call has
}

// slowFactor is how much longer than the quickest a provider's answers may take before
// others of the same price are preferred.
const slowFactor = 3

// order returns which fragments to ask for, best first: targets that are expected to
// answer, the cheapest, the quick ones, and of those the object's own bytes before
// parity. size is that of what is asked of each.
func (r *Reader) order(o *object, size int64) []candidate {
	now := time.Now()
	out := make([]candidate, 0, len(o.fragments))
	quickest := time.Duration(0)
	for i, f := range o.fragments {
		t := remoteNamed(r.remotes, f.target)
		if t == nil || t.Bucket == nil {
			continue
		}
		c := candidate{index: i, remote: t, standing: t.standing(now), cost: t.readCost(size)}
		c.hedge, c.slow = t.provider.hedgeAfter(size) // slow: so far, that it is known how slow
		if t.provider.state() == BreakerOpen && !t.provider.probeDue(now) {
			c.standing = 2
		}
		if c.standing == 0 && c.slow && (quickest == 0 || c.hedge < quickest) {
			quickest = c.hedge
		}
		out = append(out, c)
	}
	for i := range out {
		out[i].slow = out[i].slow && out[i].hedge > slowFactor*max(quickest, hedgeAfterMin)
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.standing, b.standing), cmp.Compare(a.cost, b.cost), compareBool(a.slow, b.slow), cmp.Compare(a.index, b.index))
	})
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// readCost is what it costs to read size bytes in one call; nothing from home.
func (t Target) readCost(size int64) float64 {
	if t.Home {
		return 0
	}
	return t.Prices.Egress*float64(size)/1e9 + t.Prices.Gets/1000
}
