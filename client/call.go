package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// ErrUnavailable: the service could not be reached, or it went away in mid-call.
var ErrUnavailable = errors.New("client: cannot reach the service")

// ErrNotOffered: something answers at the address, but not with that service: a log
// service's address was given where a page server's is needed, or the reverse.
var ErrNotOffered = wire.ErrNotOffered

// How often a call may be repeated. A call that is not idempotent is repeated only
// when the service itself said that it did nothing.
type safety int

const (
	idempotent    safety = iota // repeating the whole call is harmless
	notIdempotent               // it must not run twice
)

// unary runs one unary call with a deadline, maps its error, and repeats it within
// the retry budget when that is safe.
func unary[Resp any](ctx context.Context, c *Client, s safety, call func(context.Context) (Resp, error)) (Resp, error) {
	return unaryAt(ctx, c, c.opts.Addr, s, call)
}

// unaryPages is unary for the page server.
func unaryPages[Resp any](ctx context.Context, c *Client, s safety, call func(context.Context) (Resp, error)) (Resp, error) {
	return unaryAt(ctx, c, c.opts.PageAddr, s, call)
}

func unaryAt[Resp any](ctx context.Context, c *Client, addr string, s safety, call func(context.Context) (Resp, error)) (Resp, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	retry := newBudget(c.opts.RetryFor)
	for {
		resp, err := call(ctx)
		if err == nil {
			return resp, nil
		}
		err = remote(err, addr)
		if !refused(err) && !(s == idempotent && errors.Is(err, ErrUnavailable)) {
			return resp, err
		}
		if !retry.wait(ctx) {
			return resp, err
		}
	}
}

// remote maps a gRPC error to LogCore's, and a lost connection to ErrUnavailable.
func remote(err error, addr string) error {
	err = wire.FromStatus(err)
	var r *wire.RemoteError
	if errors.As(err, &r) && r.Detail == nil && r.Code == codes.Unavailable {
		return fmt.Errorf("%w at %s: %w", ErrUnavailable, addr, err)
	}
	if errors.Is(err, ErrNotOffered) {
		return fmt.Errorf("client: %s: %w", addr, err)
	}
	return err
}

// refused reports that the service did nothing and asks to be asked again.
func refused(err error) bool {
	return errors.Is(err, logcore.ErrOverloaded) || errors.Is(err, logcore.ErrNotLeader)
}

// budget spaces repeated attempts out and ends them.
type budget struct {
	total time.Duration
	until time.Time
	pause time.Duration
}

const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 500 * time.Millisecond
)

func newBudget(total time.Duration) *budget {
	b := &budget{total: total}
	b.reset()
	return b
}

// reset starts the budget afresh: there was progress.
func (b *budget) reset() { b.until, b.pause = time.Now().Add(b.total), pauseMin }

// wait sleeps before the next attempt. It returns false when the budget or ctx is used up.
func (b *budget) wait(ctx context.Context) bool {
	pause := b.pause/2 + rand.N(b.pause)
	b.pause = min(b.pause*2, pauseMax)
	if time.Now().Add(pause).After(b.until) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
