package tiering

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errStraggler is why a slow call is cut off once enough others have finished.
var errStraggler = errors.New("slower than the other targets by too much")

// stragglerPatienceMin keeps a busy machine's hiccup from passing for a slow target.
const stragglerPatienceMin = 200 * time.Millisecond

// stragglerPatience is how much longer than all that were needed the slow ones may take.
func stragglerPatience(maxAge, elapsed time.Duration) time.Duration {
	return max(maxAge*2/5, 3*elapsed, stragglerPatienceMin)
}

// each runs f for every index in [0,n) at once and waits for all of them. Once enough
// have succeeded the rest have only maxAge's patience left: their context is cancelled,
// so that one hanging target does not hold up the others. It returns each one's error.
func each(ctx context.Context, n, enough int, maxAge time.Duration, f func(ctx context.Context, i int) error) []error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, n)
	var mu sync.Mutex
	var cutOff *time.Timer
	good, start := 0, time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			errs[i] = f(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			if errs[i] != nil {
				return
			}
			if good++; good == enough && cutOff == nil {
				cutOff = time.AfterFunc(stragglerPatience(maxAge, time.Since(start)), func() { cancel(errStraggler) })
			}
		})
	}
	wg.Wait()
	if cutOff != nil {
		cutOff.Stop()
	}
	return errs
}

// eachLimited runs f for [0,n), at most limit at once, and waits for all.
func eachLimited(n, limit int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			f(i)
			<-slots
		})
	}
	wg.Wait()
}

// errStillRunning stands for the answer of a target that was not waited for.
var errStillRunning = errors.New("no answer yet; not waited for")

// roundPatienceMax bounds the wait for those that are a little slower than a majority.
const roundPatienceMax = 50 * time.Millisecond

// round runs f for every target at once and returns once a majority has succeeded, or
// all have answered. The slow ones go on in the background, until their deadline or
// ctx ends; Run waits for them. So a slow target costs nobody time, and gets its copy.
func (a *Archiver) round(ctx context.Context, f func(ctx context.Context, i int) error) []error {
	type answer struct {
		i   int
		err error
	}
	n := len(a.all())
	answers := make(chan answer, n) // each answers once, whoever still listens
	errs := make([]error, n)
	for i := range n {
		errs[i] = errStillRunning
		if !a.background.start(func() { answers <- answer{i, f(ctx, i)} }) {
			answers <- answer{i, errEnded}
		}
	}
	good, start := 0, time.Now()
	var patience <-chan time.Time
	for range n {
		select {
		case got := <-answers:
			if errs[got.i] = got.err; got.err == nil {
				good++
			}
			if patience == nil && good >= majority(n)/2 && a.quorum("", errs) == nil {
				patience = time.After(min(roundPatienceMax, 2*time.Since(start)))
			}
		case <-patience:
			return errs
		}
	}
	return errs
}
