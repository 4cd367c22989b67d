package bucket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/logcore/logcore/internal/pause"
)

// RetryOptions bounds what Retry does. The zero value is usable.
type RetryOptions struct {
	// Attempts is how often a call is made at most; 0 means 5.
	Attempts int
	// AttemptTimeout bounds one attempt, within the caller's context; 0 means 60 s. A List
	// is made in pages of 1000 keys, each an attempt of its own.
	AttemptTimeout time.Duration
	// BackoffMin and BackoffMax bound the wait before a further attempt: a random part of
	// BackoffMin × 2^n, at most BackoffMax. 0 means 50 ms and 5 s.
	BackoffMin, BackoffMax time.Duration
	// Budget is how many retries per call may be spent in the long run, over all callers:
	// while a provider is down, retries must not multiply its load. 0 means 0.2, so every
	// fifth call may be retried once; a fresh budget holds BudgetBurst retries.
	Budget float64
	// BudgetBurst is how many retries may be saved up; 0 means 50.
	BudgetBurst int
	// ThrottleWaits is how often one call waits for a provider that throttles, apart from
	// Attempts and Budget: being throttled is no fault. 0 means 10.
	ThrottleWaits int

	// OnRetry, when set, is told of every further attempt, from many goroutines.
	OnRetry func(op string, err error)
}

func (o RetryOptions) withDefaults() RetryOptions {
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.AttemptTimeout == 0 {
		o.AttemptTimeout = time.Minute
	}
	if o.BackoffMin == 0 {
		o.BackoffMin = 50 * time.Millisecond
	}
	if o.BackoffMax == 0 {
		o.BackoffMax = max(5*time.Second, o.BackoffMin)
	}
	if o.Budget == 0 {
		o.Budget = 0.2
	}
	if o.BudgetBurst == 0 {
		o.BudgetBurst = 50
	}
	if o.ThrottleWaits == 0 {
		o.ThrottleWaits = 10
	}
	return o
}

func (o RetryOptions) validate() error {
	var bad []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf(format, args...))
		}
	}
	check(o.Attempts >= 1, "Attempts %d: want at least 1", o.Attempts)
	check(o.AttemptTimeout > 0, "AttemptTimeout %v: want more than 0", o.AttemptTimeout)
	check(o.BackoffMin > 0 && o.BackoffMax >= o.BackoffMin, "BackoffMin %v, BackoffMax %v: want 0 < min <= max", o.BackoffMin, o.BackoffMax)
	check(o.Budget > 0 && o.Budget <= 10, "Budget %v: want more than 0, at most 10", o.Budget)
	check(o.BudgetBurst >= 1, "BudgetBurst %d: want at least 1", o.BudgetBurst)
	check(o.ThrottleWaits >= 0, "ThrottleWaits %d: negative", o.ThrottleWaits)
	if len(bad) > 0 {
		return fmt.Errorf("%w: retry: %w", ErrInvalid, errors.Join(bad...))
	}
	return nil
}

// Retry returns b with retries: the one place where calls are repeated. A call is
// repeated unless its error is permanent (IsPermanent), its context ends, or the
// attempts or the budget are used up. Every operation of a Bucket may be repeated: a
// put that was stored but reported lost finds its own bytes, which is success.
func Retry(b Bucket, options RetryOptions) (Bucket, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	r := &retrying{next: b, options: options, budget: budget{perCall: options.Budget, tokens: float64(options.BudgetBurst), tokensMax: float64(options.BudgetBurst)}}
	return withRetainer(r, b, func(ctx context.Context, next Retainer, key string, until time.Time) error {
		return r.do(ctx, "retain", func(ctx context.Context) error { return next.Retain(ctx, key, until) })
	}), nil
}

type retrying struct {
	next    Bucket
	options RetryOptions
	budget  budget
}

// do makes a call until it succeeds or must not be repeated.
func (r *retrying) do(ctx context.Context, op string, call func(context.Context) error) error {
	r.budget.earn()
	throttled := 0
	for attempt := 1; ; {
		err := r.attempt(ctx, call)
		if err == nil || IsPermanent(err) {
			return err
		}
		if ctx.Err() != nil {
			return ended(ctx, err)
		}
		switch {
		case errors.Is(err, ErrThrottled) && throttled < r.options.ThrottleWaits:
			throttled++
		case attempt >= r.options.Attempts:
			return fmt.Errorf("after %d attempts: %w", attempt, err)
		case !r.budget.spend():
			return fmt.Errorf("after %d attempts, the retry budget is used up: %w", attempt, err)
		default:
			attempt++
		}
		if r.options.OnRetry != nil {
			r.options.OnRetry(op, err)
		}
		if !pause.For(ctx, r.backoff(attempt+throttled)) {
			return ended(ctx, err)
		}
	}
}

func (r *retrying) attempt(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.options.AttemptTimeout)
	defer cancel()
	return call(ctx)
}

// ended adds the context's end to the error of the last attempt, which says why there
// were several.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w while trying again after: %w", ctx.Err(), err)
}

// backoff returns a random wait before attempt n, the second being the first that
// waits: full jitter, so that callers that failed together don't come back together.
func (r *retrying) backoff(n int) time.Duration {
	limit := r.options.BackoffMax
	if shift := n - 2; shift < 30 && r.options.BackoffMin<<max(shift, 0) < limit {
		limit = r.options.BackoffMin << max(shift, 0)
	}
	return rand.N(limit) + 1
}

func (r *retrying) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return r.do(ctx, "put", func(ctx context.Context) error { return r.next.PutIfAbsent(ctx, key, data) })
}

func (r *retrying) Get(ctx context.Context, key string, offset, length int64) (data []byte, err error) {
	err = r.do(ctx, "get", func(ctx context.Context) error {
		data, err = r.next.Get(ctx, key, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

func (r *retrying) Head(ctx context.Context, key string) (a Attributes, err error) {
	err = r.do(ctx, "head", func(ctx context.Context) error {
		a, err = r.next.Head(ctx, key)
		return err
	})
	return a, err
}

func (r *retrying) List(ctx context.Context, prefix, startAfter string, yield func(Attributes) bool) error {
	return listPages(startAfter, yield, func(startAfter string, add func(Attributes) bool, reset func()) error {
		return r.do(ctx, "list", func(ctx context.Context) error {
			reset() // what an attempt found that then failed
			return r.next.List(ctx, prefix, startAfter, add)
		})
	})
}

func (r *retrying) Delete(ctx context.Context, key string) error {
	return r.do(ctx, "delete", func(ctx context.Context) error { return r.next.Delete(ctx, key) })
}

func (r *retrying) String() string { return r.next.String() }

func (r *retrying) Close() error { return r.next.Close() }

// budget is a token bucket that every call fills a little and every retry empties.
type budget struct {
	perCall, tokensMax float64

	mu     sync.Mutex
	tokens float64 // guarded by mu; 0 to tokensMax
}

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.perCall, b.tokensMax)
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
