package hotlog

import (
	"testing"
	"time"
)

// The choice follows the device: one that gains by writes at once, one that loses, and one that
// changes its mind; small writes are never split.
func TestLanesFollowTheDevice(t *testing.T) {
	parallel := func(n int, bytes int) time.Duration {
		return 100*time.Microsecond + time.Duration(bytes/n)*time.Nanosecond
	}
	serial := func(n int, bytes int) time.Duration {
		return time.Duration(n)*500*time.Microsecond + time.Duration(bytes)*time.Nanosecond
	}
	best := func(n int, bytes int) time.Duration { // two are good, more get in each other's way
		if n == 2 {
			return parallel(2, bytes)
		}
		return serial(n, bytes)
	}
	var l lanes
	for _, phase := range []struct {
		name   string
		device func(int, int) time.Duration
		want   int
	}{{"parallel", parallel, 4}, {"serial", serial, 1}, {"two", best, 2}, {"parallel again", parallel, 4}} {
		chosen := map[int]int{}
		const rounds, bytes = 2000, 2 << 20
		for round := range rounds {
			c := l.choose(bytes)
			took := phase.device(laneCounts[c], bytes)
			if round%50 == 0 {
				took += 20 * time.Millisecond
			}
			l = l.learn(c, bytes, took)
			if round >= rounds/2 {
				chosen[laneCounts[c]]++
			}
		}
		if chosen[phase.want] < rounds/2*9/10 {
			t.Errorf("%s: chose %v, want %d in nine of ten", phase.name, chosen, phase.want)
		}
	}
	for _, bytes := range []int{4096, 128 << 10, 2*laneBytes - 1} {
		if c := l.choose(bytes); c != 0 {
			t.Errorf("%d bytes in %d pieces", bytes, laneCounts[c])
		}
	}
	for range 1000 {
		if c := l.choose(2 * laneBytes); laneCounts[c] > 2 {
			t.Fatalf("%d bytes in %d pieces", 2*laneBytes, laneCounts[c])
		}
		l = l.learn(0, 2*laneBytes, time.Millisecond)
	}
}
