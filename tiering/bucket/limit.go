package bucket

import (
	"context"
	"fmt"
	"time"
)

// Limit returns b with at most n calls at once. Further calls wait for their turn, as
// long as their context allows. A List waits for each page of 1000 keys, and holds no
// slot while its caller looks at them.
func Limit(b Bucket, n int) (Bucket, error) {
	if n < 1 {
		return nil, fmt.Errorf("%w: limit of %d calls at once: want at least 1", ErrInvalid, n)
	}
	l := &limited{next: b, slots: make(chan struct{}, n)}
	return withRetainer(l, b, func(ctx context.Context, next Retainer, key string, until time.Time) error {
		return l.do(ctx, func() error { return next.Retain(ctx, key, until) })
	}), nil
}

type limited struct {
	next  Bucket
	slots chan struct{}
}

func (l *limited) do(ctx context.Context, call func() error) error {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%v: %w while waiting for one of %d slots", l.next, ctx.Err(), cap(l.slots))
	}
	defer func() { <-l.slots }()
	return call()
}

func (l *limited) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return l.do(ctx, func() error { return l.next.PutIfAbsent(ctx, key, data) })
}

func (l *limited) Get(ctx context.Context, key string, offset, length int64) (data []byte, err error) {
	err = l.do(ctx, func() error {
		data, err = l.next.Get(ctx, key, offset, length)
		return err
	})
	return data, err
}

func (l *limited) Head(ctx context.Context, key string) (a Attributes, err error) {
	err = l.do(ctx, func() error {
		a, err = l.next.Head(ctx, key)
		return err
	})
	return a, err
}

func (l *limited) List(ctx context.Context, prefix, startAfter string, yield func(Attributes) bool) error {
	return listPages(startAfter, yield, func(startAfter string, add func(Attributes) bool, _ func()) error {
		return l.do(ctx, func() error { return l.next.List(ctx, prefix, startAfter, add) })
	})
}

func (l *limited) Delete(ctx context.Context, key string) error {
	return l.do(ctx, func() error { return l.next.Delete(ctx, key) })
}

func (l *limited) String() string { return l.next.String() }

func (l *limited) Close() error { return l.next.Close() }
