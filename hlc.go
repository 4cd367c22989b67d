package logcore

import (
	"fmt"
	"sync"
	"time"
)

// HLC is a hybrid logical clock reading: Unix milliseconds in the upper 48 bits,
// a Lamport counter in the lower 16. Readings order as numbers do
// (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014).
type HLC uint64

const hlcCounterBits = 16

// HLCAt returns the smallest reading of a wall-clock time; with
// HLCAt(t.Add(time.Millisecond))-1 it brackets every reading in that millisecond.
func HLCAt(t time.Time) HLC {
	ms := t.UnixMilli()
	if ms < 0 {
		ms = 0
	}
	return HLC(uint64(ms) << hlcCounterBits)
}

// Wall returns the wall-clock part, to the millisecond, in UTC.
func (h HLC) Wall() time.Time { return time.UnixMilli(int64(h >> hlcCounterBits)).UTC() }

// String returns the wall-clock part in RFC 3339 and the counter.
func (h HLC) String() string {
	return fmt.Sprintf("%s+%d", h.Wall().Format("2006-01-02T15:04:05.000Z"), uint64(h)&(1<<hlcCounterBits-1))
}

// ClockAheadMax bounds how far a reading seen from elsewhere may be ahead of this
// machine's wall clock.
const ClockAheadMax = time.Minute

// Clock issues strictly increasing HLC readings in O(1), whatever the wall clock
// does. It may be used by many goroutines.
type Clock struct {
	now func() time.Time

	mu   sync.Mutex
	last HLC // guarded by mu
}

// NewClock returns a clock over a wall clock; nil means time.Now.
func NewClock(now func() time.Time) *Clock {
	if now == nil {
		now = time.Now
	}
	return &Clock{now: now}
}

// Now returns a reading greater than every one returned or observed before.
func (c *Clock) Now() HLC {
	wall := HLCAt(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(wall, c.last+1)
	return c.last
}

// Next returns the reading that follows the newest one, without a look at the wall clock: for what
// happens together with what that one was given to.
func (c *Clock) Next() HLC {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	return c.last
}

// Restore makes every later reading greater than h, unconditionally: h comes from
// this member's own durable log.
func (c *Clock) Restore(h HLC) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, h)
}

// Observe makes every later reading greater than h, a reading of another machine.
// It refuses one that is more than ClockAheadMax ahead of this wall clock, with an
// error that wraps ErrInvalid.
func (c *Clock) Observe(h HLC) error {
	if limit := HLCAt(c.now().Add(ClockAheadMax)); h > limit {
		return fmt.Errorf("%w: remote timestamp %v is more than %v ahead of this machine's clock: check both clocks", ErrInvalid, h, ClockAheadMax)
	}
	c.Restore(h)
	return nil
}
