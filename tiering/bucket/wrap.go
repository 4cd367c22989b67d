package bucket

import (
	"context"
	"fmt"
	"time"
)

// listPage is how many keys a wrapper takes from a List before it hands them on: what
// most providers return in one answer.
const listPage = 1000

// listPages makes one List out of several bounded ones, so that a wrapper holds no
// deadline and no slot while yield runs, which may call the bucket itself. page lists
// once: it adds what it finds and begins again with reset.
func listPages(startAfter string, yield func(Attributes) bool, page func(startAfter string, add func(Attributes) bool, reset func()) error) error {
	for {
		var found []Attributes
		add := func(a Attributes) bool {
			found = append(found, a)
			return len(found) < listPage
		}
		if err := page(startAfter, add, func() { found = found[:0] }); err != nil {
			return err
		}
		for _, a := range found {
			if !yield(a) {
				return nil
			}
		}
		if len(found) < listPage {
			return nil
		}
		startAfter = found[len(found)-1].Key
	}
}

// withRetainer returns wrapper as a Retainer exactly when the bucket inside is one.
func withRetainer(wrapper, inside Bucket, call func(ctx context.Context, next Retainer, key string, until time.Time) error) Bucket {
	next, ok := inside.(Retainer)
	if !ok {
		return wrapper
	}
	return retainingWrapper{wrapper, func(ctx context.Context, key string, until time.Time) error { return call(ctx, next, key, until) }}
}

type retainingWrapper struct {
	Bucket
	retain func(ctx context.Context, key string, until time.Time) error
}

// Retain implements Retainer.
func (w retainingWrapper) Retain(ctx context.Context, key string, until time.Time) error {
	return w.retain(ctx, key, until)
}

// HardenOptions says how Harden wraps a bucket.
type HardenOptions struct {
	// Target is the value of the label "target". Required when Metrics is set.
	Target string
	// Concurrency is how many calls run at once; 0 means 16.
	Concurrency int
	// Rate bounds requests and bytes a second, retries included; zero bounds nothing.
	Rate RateOptions
	// Retry bounds the retries.
	Retry RetryOptions
	// Metrics counts every attempt; nil counts nothing.
	Metrics *Metrics
}

// Harden wraps a bare bucket as production wants it: metrics of every attempt, inside a
// limit of attempts at once, inside the rates, inside retries; who waits holds no slot.
func Harden(b Bucket, o HardenOptions) (Bucket, error) {
	if o.Metrics != nil {
		if o.Target == "" {
			return nil, fmt.Errorf("%w: HardenOptions.Target: required with Metrics", ErrInvalid)
		}
		b = o.Metrics.Wrap(b, o.Target)
		inner := o.Retry.OnRetry
		o.Retry.OnRetry = func(op string, err error) {
			o.Metrics.retries.WithLabelValues(o.Target, op).Inc()
			if inner != nil {
				inner(op, err)
			}
		}
	}
	if o.Concurrency == 0 {
		o.Concurrency = 16
	}
	b, err := Limit(b, o.Concurrency)
	if err != nil {
		return nil, err
	}
	if o.Rate != (RateOptions{}) {
		if b, err = Rate(b, o.Rate); err != nil {
			return nil, err
		}
	}
	return Retry(b, o.Retry)
}
