package sim

import (
	"math/rand/v2"
	"time"
)

// scheduler is the one goroutine's order of events: a priority queue by simulated
// time, and by age among equals.
type scheduler struct {
	now   time.Duration // since the run began
	seq   uint64        // of the last event made
	queue []event       // a binary heap
	rng   *rand.Rand
	steps uint64 // events carried out: the run's only measure of what came before what
}

// stepsMax is far more events than a run of a minute has.
const stepsMax = 5_000_000

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func newScheduler(seed uint64) *scheduler {
	return &scheduler{rng: rand.New(rand.NewPCG(seed, 0x10c))}
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// after has do carried out when d has passed.
func (s *scheduler) after(d time.Duration, do func()) {
	s.seq++
	s.queue = append(s.queue, event{at: s.now + max(d, 0), seq: s.seq, do: do})
	for i := len(s.queue) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s.queue[i].before(s.queue[parent]) {
			break
		}
		s.queue[i], s.queue[parent] = s.queue[parent], s.queue[i]
		i = parent
	}
}

// run carries out events until the given time, or until stop says so.
func (s *scheduler) run(until time.Duration, stop func() bool) {
	for len(s.queue) > 0 && s.queue[0].at <= until && !stop() {
		e := s.pop()
		s.now = e.at
		if s.steps++; s.steps > stepsMax {
			panic("more events than any run has: something goes round and round")
		}
		e.do()
	}
	if !stop() {
		s.now = max(s.now, until)
	}
}

func (s *scheduler) pop() event {
	top := s.queue[0]
	n := len(s.queue) - 1
	s.queue[0] = s.queue[n]
	s.queue[n] = event{}
	s.queue = s.queue[:n]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if s.queue[child].before(s.queue[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		s.queue[i], s.queue[least] = s.queue[least], s.queue[i]
		i = least
	}
}

// chance is true with probability p.
func (s *scheduler) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

// between returns a duration in [lo, hi).
func (s *scheduler) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)))
}

// intn returns a number in [0, n).
func (s *scheduler) intn(n int) int { return s.rng.IntN(n) }
