package tiering

import (
	"errors"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// Breaker settings: one failed round is tolerated, a dead target costs a probe now
// and then.
const (
	breakerFailures = 3
	breakerPauseMin = time.Second
	breakerPauseMax = 30 * time.Second
)

// BreakerState says whether calls go to a target or a provider.
type BreakerState int

// The states of a breaker.
const (
	BreakerClosed   BreakerState = iota // calls go through
	BreakerHalfOpen                     // one call, the probe, is under way; others are refused
	BreakerOpen                         // calls are refused until the pause is over
)

// String returns the state's name.
func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerHalfOpen:
		return "half-open"
	}
	return "open"
}

// breaker is a circuit breaker: breakerFailures failures in a row open it, for a pause
// that doubles from probe to probe; then one call is let through, and what becomes of it
// decides. It has no clock and no lock of its own.
type breaker struct {
	failures int       // in a row
	openTill time.Time // when the next probe may go
	probing  bool      // the probe is under way
	probeEnd time.Time // when a probe of which nothing was heard is given up
}

// admit reports whether a call may go. probe says that it is the one that decides: its
// caller must call record or abandon. patience bounds how long nothing may be heard of it.
func (b *breaker) admit(now time.Time, patience time.Duration) (ok, probe bool) {
	switch {
	case b.failures < breakerFailures:
		return true, false
	case b.probing && now.Before(b.probeEnd), !b.probing && now.Before(b.openTill):
		return false, false
	}
	b.probing, b.probeEnd = true, now.Add(patience)
	return true, true
}

// abandon takes back a probe that was never answered because its caller went away.
func (b *breaker) abandon() { b.probing = false }

// record tells what became of a call.
func (b *breaker) record(now time.Time, ok bool) {
	b.probing = false
	if ok {
		b.failures = 0
		return
	}
	b.failures++
	pause := breakerPauseMin << min(max(b.failures-breakerFailures, 0), 10)
	b.openTill = now.Add(min(pause, breakerPauseMax))
}

// trip opens the breaker at once.
func (b *breaker) trip(now time.Time) {
	b.failures = max(b.failures, breakerFailures-1)
	b.record(now, false)
}

// state returns the state.
func (b *breaker) state() BreakerState {
	switch {
	case b.failures < breakerFailures:
		return BreakerClosed
	case b.probing:
		return BreakerHalfOpen
	}
	return BreakerOpen
}

// provider is what the targets at one provider share: what breaks there breaks for all of
// them, and how long its answers take.
type provider struct {
	name string

	mu      sync.Mutex
	breaker breaker         // guarded by mu
	failing map[string]bool // guarded by mu: targets that failed since the last success
	targets int             // how many there are
	latency latencies       // has its own lock
}

// newProviders makes one for every provider among the targets; a target without one has
// its own.
func newProviders(targets []Target) map[string]*provider {
	out := map[string]*provider{}
	for _, t := range targets {
		key := providerKey(t)
		if out[key] == nil {
			out[key] = &provider{name: key, failing: map[string]bool{}}
		}
		out[key].targets++
	}
	return out
}

// providerKey names a target's provider; a target that tells none is alone at its own.
func providerKey(t Target) string {
	if t.Provider == "" {
		return "of target " + t.Name
	}
	return t.Provider
}

// admit is breaker.admit.
func (p *provider) admit(patience time.Duration) (ok, probe bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.breaker.admit(time.Now(), patience)
}

func (p *provider) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breaker.abandon()
}

// record tells what became of a call to a target. The provider counts as failing only
// when each of its targets does: one bucket that hangs says nothing about the next one.
func (p *provider) record(target string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch now := time.Now(); {
	case ok:
		p.breaker.record(now, true)
		clear(p.failing)
	default:
		p.failing[target] = true
		if len(p.failing) >= p.targets {
			p.breaker.record(now, false)
		} else {
			p.breaker.abandon()
		}
	}
}

func (p *provider) state() BreakerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.breaker.state()
}

// probeDue reports whether the next call would be a probe.
func (p *provider) probeDue(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.breaker.probing && !now.Before(p.breaker.openTill)
}

// ofTarget reports whether an error is about one bucket, not about its provider.
func ofTarget(err error) bool {
	for _, e := range []error{bucket.ErrGone, bucket.ErrDenied, bucket.ErrFull, bucket.ErrRetention, bucket.ErrInvalid, bucket.ErrChecksum, logcore.ErrClosed, logcore.ErrPoisoned} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
