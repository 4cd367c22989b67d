//go:build !race

package hotlog

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// paceLoad is who appends to the simulated log.
type paceLoad struct {
	name    string
	callers int           // closed load: each comes back after think once its append is durable
	think   time.Duration // mean; exponential
	every   time.Duration // open load instead: mean distance of arrivals
}

// fixedWindow is what the controller is compared with: begin when target entries wait,
// or when the oldest has waited for window.
type fixedWindow struct {
	target int
	window time.Duration
}

// paceSim runs a log with one commit at a time on a device, in simulated time, and
// returns entries a second and their mean latency. With fixed nil the controller decides.
func paceSim(seed uint64, load paceLoad, device func(now time.Duration, entries int) time.Duration, fixed *fixedWindow) (rate float64, latency time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 5))
	exp := func(mean time.Duration) time.Duration { return time.Duration(rng.ExpFloat64() * float64(mean)) }
	var coming []time.Duration // arrivals ahead, sorted
	arrive := func(at time.Duration) {
		i, _ := slices.BinarySearch(coming, at)
		coming = slices.Insert(coming, i, at)
	}
	for range load.callers {
		arrive(exp(load.think))
	}
	if load.callers == 0 {
		arrive(exp(load.every))
	}
	var p pace
	var now, began, ended, newest, sum time.Duration
	var waiting []time.Duration
	take := func(until time.Duration) { // arrivals up to until
		for len(coming) > 0 && coming[0] <= until {
			waiting, newest, coming = append(waiting, coming[0]), coming[0], coming[1:]
			if load.callers == 0 {
				arrive(newest + exp(load.every))
			}
		}
	}
	commits := 4000 // enough for what is learned from stalls
	if load.callers >= 64 || load.every < 10*time.Microsecond && load.callers == 0 {
		commits = 1200
	}
	done, waitedFrom := 0, 0
	for n := 0; n < commits; {
		take(now)
		begin, patience := false, time.Duration(0)
		switch {
		case fixed == nil:
			var d paceDecision
			d, patience = p.step(paceInput{pending: len(waiting), ended: now - ended, quiet: now - max(newest, ended), begun: now - began})
			if begin = d.begins(); d == pacePark {
				patience = time.Hour
			}
			if d == paceWait && waitedFrom == 0 {
				waitedFrom = len(waiting)
			}
		case len(waiting) == 0:
			patience = time.Hour
		default:
			patience = waiting[0] + fixed.window - now
			begin = len(waiting) >= fixed.target || patience <= 0
		}
		if !begin {
			next := now + patience
			if len(coming) > 0 {
				next = min(next, coming[0])
			}
			now = next
			continue
		}
		n++
		began = now
		took := device(now, len(waiting))
		batch := waiting
		waiting = nil
		now += took
		ended = now
		take(now)
		waited := time.Duration(0)
		for _, at := range batch {
			waited += now - at
		}
		p = p.synced(commitFacts{entries: len(batch), came: len(waiting), waitedFrom: waitedFrom, took: took, waited: waited})
		waitedFrom = 0
		for _, at := range batch {
			sum += now - at
			done++
			if load.callers > 0 {
				arrive(now + time.Microsecond + exp(load.think))
			}
		}
	}
	return float64(done) / now.Seconds(), sum / time.Duration(max(done, 1))
}

// A bimodal device does other things now and then, and every write waits for that.
var paceDevices = map[string]func(now time.Duration, entries int) time.Duration{
	"fast": func(_ time.Duration, n int) time.Duration {
		return 20*time.Microsecond + time.Duration(n)*50*time.Nanosecond
	},
	"slow": func(_ time.Duration, n int) time.Duration {
		return 4*time.Millisecond + time.Duration(n)*100*time.Nanosecond
	},
	"bimodal": func(now time.Duration, n int) time.Duration {
		took := 150*time.Microsecond + time.Duration(n)*50*time.Nanosecond
		const every, stall = 21 * time.Millisecond, 5 * time.Millisecond
		if rest := stall - (now+took)%every; rest > 0 {
			took += rest
		}
		return took
	},
	"bimodal, by the commit": func(now time.Duration, n int) time.Duration {
		took := 150*time.Microsecond + time.Duration(n)*50*time.Nanosecond
		if h := uint64(now) * 0x9e3779b97f4a7c15; h>>32%20 == 0 { // every twentieth or so
			took += 5 * time.Millisecond
		}
		return took
	},
}

var paceLoads = []paceLoad{
	{name: "closed, 1 caller", callers: 1, think: 2 * time.Microsecond},
	{name: "closed, 4 callers", callers: 4, think: 5 * time.Microsecond},
	{name: "closed, 64 callers", callers: 64, think: 10 * time.Microsecond},
	{name: "closed, 256 callers", callers: 256, think: 20 * time.Microsecond},
	{name: "closed, 16 callers that think", callers: 16, think: 100 * time.Microsecond},
	{name: "open, one in 50 µs", every: 50 * time.Microsecond},
	{name: "open, one in 5 µs", every: 5 * time.Microsecond},
	{name: "open, one in 10 ms", every: 10 * time.Millisecond},
}

// paceShare is how much worse than the best of the fixed settings the controller does, in
// throughput where the load is closed, in mean latency where it is open: 1 = as well.
func paceShare(seed uint64, load paceLoad, device func(now time.Duration, entries int) time.Duration, fixed []fixedWindow) float64 {
	rate, latency := paceSim(seed, load, device, nil)
	best, lowest := 0.0, time.Duration(math.MaxInt64)
	for _, f := range fixed {
		r, l := paceSim(seed, load, device, &f)
		best, lowest = max(best, r), min(lowest, l)
	}
	if load.callers > 0 {
		return best / rate
	}
	return float64(latency) / float64(lowest)
}

// There is one goroutine in the simulation, so the race detector, under which it would
// take minutes, has nothing to find in it.
//
// The controller, which knows neither device nor load, comes within 10 % of the best
// fixed setting for each of them where the device does not stall, whatever the seed. Where
// it stalls, so many commits as are simulated teach little of it, and the best of 36
// settings is the one that the seed happens to suit: there the median of several seeds is
// within 10 % where the load is closed, within 25 % where it is open, and one seed within
// 60 %. The spread over 24 seeds stands in docs/adr/0007-commit-path.md.
func TestPaceAgainstBestFixed(t *testing.T) {
	var fixed []fixedWindow
	for _, target := range []int{1, 2, 4, 16, 64, 256} {
		for _, window := range []time.Duration{0, 5, 20, 100, 500, 2000} {
			fixed = append(fixed, fixedWindow{target, window * time.Microsecond})
		}
	}
	for name, device := range paceDevices {
		stalls := strings.HasPrefix(name, "bimodal")
		for _, load := range paceLoads {
			t.Run(fmt.Sprintf("%s, %s", name, load.name), func(t *testing.T) {
				t.Parallel()
				seeds, medianMax, worstMax := 1, 1.1, 1.1
				if stalls {
					seeds, worstMax = 3, 1.6
					if load.callers == 0 {
						medianMax = 1.25
					}
				}
				var shares []float64
				for seed := range seeds {
					shares = append(shares, paceShare(uint64(seed+1), load, device, fixed))
				}
				slices.Sort(shares)
				median, worst := shares[len(shares)/2], shares[len(shares)-1]
				t.Logf("worse than the best fixed setting by %.3f", shares)
				if median > medianMax || worst > worstMax {
					t.Errorf("the best fixed setting is better by %.3f, want %.2f in the median, %.2f at worst", shares, medianMax, worstMax)
				}
			})
		}
	}
}
