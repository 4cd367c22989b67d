package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/logcore/logcore/internal/pause"
)

// Effect does what is wrong with a call. A nil func leaves that operation alone.
type Effect struct {
	// Before runs ahead of every operation; its error is returned and the bucket isn't asked.
	Before func(ctx context.Context, call Call) error
	// Put replaces PutIfAbsent.
	Put func(ctx context.Context, next Bucket, key string, data []byte) error
	// After runs after every operation and replaces its error.
	After func(call Call, err error) error
	// Got changes what Get returns. The slice is its to change.
	Got func(ctx context.Context, next Bucket, key string, data []byte) ([]byte, error)
	// Hides keeps keys out of a List. newer says that the key was put through the wrapper
	// after the fault was added.
	Hides func(key string, newer bool) bool
}

// errLost is how a broken connection looks.
var errLost = fmt.Errorf("injected: connection lost: %w", io.ErrUnexpectedEOF)

// Fail makes the call fail with err before the bucket is asked: a lost put (nil: as a
// broken connection), a refusal, a target that is gone.
func Fail(err error) Effect {
	if err == nil {
		err = errLost
	}
	return Effect{Before: func(context.Context, Call) error { return err }}
}

// Unavailable is a 503 without a reason: try again.
func Unavailable() Effect { return Fail(errors.New("injected: 503 Service Unavailable")) }

// Throttled is a 503 Slow Down.
func Throttled() Effect { return Fail(fmt.Errorf("injected: %w", ErrThrottled)) }

// DoneButLost makes the call happen and fail with err, whatever its own result: stored
// but reported lost. nil is a broken connection.
func DoneButLost(err error) Effect {
	if err == nil {
		err = errLost
	}
	return Effect{After: func(Call, error) error { return err }}
}

// HalfPut stores the first half of the bytes and returns err, nil included: a provider
// that lies.
func HalfPut(err error) Effect {
	return Effect{Put: func(ctx context.Context, next Bucket, key string, data []byte) error {
		if perr := next.PutIfAbsent(ctx, key, data[:len(data)/2]); perr != nil {
			return perr
		}
		return err
	}}
}

// PutNothing reports success and stores nothing.
func PutNothing() Effect {
	return Effect{Put: func(context.Context, Bucket, string, []byte) error { return nil }}
}

// Slow makes the call wait first, as long as its context allows.
func Slow(wait time.Duration) Effect {
	return Effect{Before: func(ctx context.Context, _ Call) error {
		if !pause.For(ctx, wait) {
			return fmt.Errorf("injected: slow: %w", ctx.Err())
		}
		return nil
	}}
}

// Hang makes the call wait until its context ends.
func Hang() Effect {
	return Effect{Before: func(ctx context.Context, _ Call) error {
		<-ctx.Done()
		return fmt.Errorf("injected: hang: %w", ctx.Err())
	}}
}

// WrongBytes flips one bit of what Get returns: the bit-th, counted over the slice and
// round its end.
func WrongBytes(bit int) Effect {
	return Effect{Got: func(_ context.Context, _ Bucket, _ string, data []byte) ([]byte, error) {
		if len(data) > 0 {
			data[bit/8%len(data)] ^= 1 << (bit % 8)
		}
		return data, nil
	}}
}

// WrongObject makes Get return the bytes of another key, from their beginning.
func WrongObject(other string) Effect {
	return Effect{Got: func(ctx context.Context, next Bucket, _ string, data []byte) ([]byte, error) {
		return next.Get(ctx, other, 0, int64(len(data)))
	}}
}

// ShortRead makes Get return half of the bytes without an error.
func ShortRead() Effect {
	return Effect{Got: func(_ context.Context, _ Bucket, _ string, data []byte) ([]byte, error) {
		return data[:len(data)/2], nil
	}}
}

// StaleList hides keys that were put, through this wrapper, after the fault was added.
func StaleList() Effect { return Effect{Hides: func(_ string, newer bool) bool { return newer }} }
