package tiering

import (
	"slices"
	"sync"
	"time"
)

// latencySamples is how many of the newest answers a quantile is taken from: enough for a
// p95, few enough to follow a provider that changes.
const latencySamples = 128

// latencySamplesMin is from how many on the quantile means something.
const latencySamplesMin = 8

// latencyMaxAge is how long answers say something: a provider that was slow, and is not
// asked for that reason, must be tried again.
const latencyMaxAge = 30 * time.Second

// sizeClasses are the upper bounds of the classes of answers by size: a mebibyte takes
// longer than a block, and neither must set the other's pace.
var sizeClasses = []int64{64 << 10, 512 << 10, 4 << 20}

// latencies is how long a provider's answers took lately, by size.
type latencies struct {
	mu      sync.Mutex
	classes [4]ring // guarded by mu; len(sizeClasses)+1
}

// ring holds the newest samples of a class.
type ring struct {
	samples []time.Duration // at most latencySamples
	next    int
	newest  time.Time
	p95     time.Duration // of samples; 0 = to be computed
}

func classOf(size int64) int {
	for i, bound := range sizeClasses {
		if size <= bound {
			return i
		}
	}
	return len(sizeClasses)
}

// add notes an answer of size bytes.
func (l *latencies) add(size int64, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.classes[classOf(size)]
	now := time.Now()
	if now.Sub(r.newest) > latencyMaxAge {
		r.samples, r.next = r.samples[:0], 0
	}
	r.newest = now
	if len(r.samples) < latencySamples {
		r.samples = append(r.samples, took)
	} else {
		r.samples[r.next] = took
		r.next = (r.next + 1) % latencySamples
	}
	r.p95 = 0
}

// addAtLeast notes a call that was given up: it would have taken longer. It counts only
// where it raises the quantile; else a slow provider would look as fast as the hedges that
// beat it.
func (l *latencies) addAtLeast(size int64, waited time.Duration) {
	if p, known := l.p95(size); known && waited > p {
		l.add(size, waited)
	}
}

// p95 returns the 95th percentile of the answers of about that size; false when too few
// are known, or only old ones.
func (l *latencies) p95(size int64) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.classes[classOf(size)]
	if len(r.samples) < latencySamplesMin || time.Since(r.newest) > latencyMaxAge {
		return 0, false
	}
	if r.p95 == 0 {
		sorted := slices.Sorted(slices.Values(r.samples))
		r.p95 = max(sorted[(len(sorted)*95-1)/100], 1)
	}
	return r.p95, true
}
