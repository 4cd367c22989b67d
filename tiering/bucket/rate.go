package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore/internal/pause"
)

// RateOptions bounds how fast a bucket is used. Zero fields bound nothing.
type RateOptions struct {
	// RequestsPerSecond is how many calls may begin; up to a second's worth at once. A List
	// counts for each page of 1000 keys.
	RequestsPerSecond float64
	// BytesPerSecond is how many bytes of objects may be put and got; up to a second's
	// worth at once. A single object may be larger: the calls after it wait for that.
	BytesPerSecond float64
}

func (o RateOptions) validate() error {
	if !(o.RequestsPerSecond >= 0) || !(o.BytesPerSecond >= 0) {
		return fmt.Errorf("%w: rate of %v requests and %v bytes a second: negative", ErrInvalid, o.RequestsPerSecond, o.BytesPerSecond)
	}
	return nil
}

// Rate returns b with its calls spread over time. A call waits, in turn and as long as its
// context allows, until the rates have room; how much a Get reads is known afterwards
// only, so the calls behind it pay for it.
func Rate(b Bucket, options RateOptions) (Bucket, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	r := &rated{next: b, requests: pacer{perSecond: options.RequestsPerSecond}, bytes: pacer{perSecond: options.BytesPerSecond}}
	return withRetainer(r, b, func(ctx context.Context, next Retainer, key string, until time.Time) error {
		if err := r.wait(ctx, 0); err != nil {
			return err
		}
		return next.Retain(ctx, key, until)
	}), nil
}

type rated struct {
	next            Bucket
	requests, bytes pacer
}

// wait lets a call begin that will carry so many bytes, as far as is known.
func (r *rated) wait(ctx context.Context, bytes int) error {
	if err := r.requests.take(ctx, 1); err != nil {
		return fmt.Errorf("%v: waiting for the rate of %v requests a second: %w", r.next, r.requests.perSecond, err)
	}
	if err := r.bytes.take(ctx, float64(bytes)); err != nil {
		return fmt.Errorf("%v: waiting for the rate of %v bytes a second: %w", r.next, r.bytes.perSecond, err)
	}
	return nil
}

// pacer is a token bucket that holds a second's worth. What is taken beyond that is a debt
// which those who come later wait for, in the order in which they came.
type pacer struct {
	perSecond float64 // 0 = no bound

	mu   sync.Mutex
	free time.Time // guarded by mu; when all that was taken is paid for
}

// take waits until what was taken before is paid for but a second's worth, and takes n.
func (p *pacer) take(ctx context.Context, n float64) error {
	if p.perSecond == 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	cost := time.Duration(n / p.perSecond * float64(time.Second))
	if p.free.Before(now) {
		p.free = now
	}
	begin := p.free.Add(-time.Second)
	p.free = p.free.Add(cost)
	p.mu.Unlock()
	wait := begin.Sub(now)
	if deadline, ok := ctx.Deadline(); ok && now.Add(wait).After(deadline) {
		p.giveBack(cost)
		return errors.Join(context.DeadlineExceeded, fmt.Errorf("it has no room for %v", wait.Round(time.Millisecond)))
	}
	if wait > 0 && !pause.For(ctx, wait) || ctx.Err() != nil {
		p.giveBack(cost)
		return ctx.Err()
	}
	return nil
}

// charge takes n that were used already.
func (p *pacer) charge(n int) {
	if p.perSecond == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
}

func (p *pacer) giveBack(cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = p.free.Add(-cost)
}

func (r *rated) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := r.wait(ctx, len(data)); err != nil {
		return err
	}
	return r.next.PutIfAbsent(ctx, key, data)
}

func (r *rated) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := r.wait(ctx, 0); err != nil {
		return nil, err
	}
	data, err := r.next.Get(ctx, key, offset, length)
	r.bytes.charge(len(data))
	return data, err
}

func (r *rated) Head(ctx context.Context, key string) (Attributes, error) {
	if err := r.wait(ctx, 0); err != nil {
		return Attributes{}, err
	}
	return r.next.Head(ctx, key)
}

func (r *rated) List(ctx context.Context, prefix, startAfter string, yield func(Attributes) bool) error {
	return listPages(startAfter, yield, func(startAfter string, add func(Attributes) bool, _ func()) error {
		if err := r.wait(ctx, 0); err != nil {
			return err
		}
		return r.next.List(ctx, prefix, startAfter, add)
	})
}

func (r *rated) Delete(ctx context.Context, key string) error {
	if err := r.wait(ctx, 0); err != nil {
		return err
	}
	return r.next.Delete(ctx, key)
}

func (r *rated) String() string { return r.next.String() }

func (r *rated) Close() error { return r.next.Close() }
