package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
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
	lengthy                     // the same, and an attempt may take as long as the call
	notIdempotent               // it must not run twice
)

// unary runs one unary call about a log (empty: about none) at the member that leads it,
// with a deadline, maps its error, and repeats it within the retry budget, there or at another member,
// when that is safe.
func unary[Resp any](ctx context.Context, c *Client, log string, s safety, call func(context.Context, *member) (Resp, error)) (Resp, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	retry := newBudget(c.opts.RetryFor)
	for hung, hops := 0, 0; ; {
		m := c.router.to(log)
		resp, err := attempt(ctx, c, m, s, hung, call)
		if err == nil {
			return resp, nil
		}
		if errors.Is(err, context.DeadlineExceeded) {
			hung++
		}
		hint, next := "", m
		switch {
		case c.router.learn(log, err):
			if hint = wire.LeaderHint(err); hint != "" || errors.Is(err, logcore.ErrNotLeader) {
				next = c.router.moved(log, m, hint)
			}
		case errors.Is(err, errUnsent), s != notIdempotent && c.unfit(err):
			c.router.fails(m)
			c.router.moved(log, m, "")
		case !refused(err):
			return resp, err
		}
		if hops++; hint != "" && next != m && hops <= hopsMax {
			continue // straight to where it was sent
		}
		if !retry.wait(ctx) {
			return resp, err
		}
	}
}

// unfit reports that the member could not be reached or is of no use, and, of a failed
// disk, that there are others.
func (c *Client) unfit(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, logcore.ErrPoisoned) && c.router.several()
}

// hopsMax is how many hints are followed without a pause.
const hopsMax = 2

// bounded gives ctx the deadline of a call if it has none.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.opts.Timeout)
}

// errUnsent: the call was not even sent.
var errUnsent = fmt.Errorf("%w: there is no connection", ErrUnavailable)

// attempt is one attempt at one member. Where there are others to ask, none may use up
// all the time there is: one that hangs is found out by that.
func attempt[Resp any](ctx context.Context, c *Client, m *member, s safety, hung int, call func(context.Context, *member) (Resp, error)) (resp Resp, err error) {
	whole := ctx
	if c.router.several() {
		each := c.opts.patience() << min(hung/3, 8) // a service that is slow everywhere gets more
		if s == notIdempotent && !connected(ctx, m.conn, c.opts.establish()) {
			return resp, fmt.Errorf("%w to %s", errUnsent, m.addr)
		}
		if s == idempotent {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, each)
			defer cancel()
		}
	}
	if resp, err = call(ctx, m); err == nil {
		return resp, nil
	}
	err = remote(err, m.addr)
	if ctx.Err() != nil && whole.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w at %s: no answer: %w", ErrUnavailable, m.addr, err)
	}
	return resp, err
}

// connected waits until a connection stands.
func connected(ctx context.Context, conn *grpc.ClientConn, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}

// unaryPages is unary for the page servers: any of them answers, and when one can't be
// reached, or has no pages yet, the next is asked.
func unaryPages[Resp any](ctx context.Context, c *Client, call func(context.Context, logcorev1.PageServiceClient) (Resp, error)) (Resp, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	retry := newBudget(c.opts.RetryFor)
	for {
		var resp Resp
		var err error
		for _, s := range c.servers.ranked() {
			if resp, err = call(ctx, s.pages); err == nil {
				return resp, nil
			}
			err = remote(err, s.addr)
			if errors.Is(err, ErrUnavailable) {
				c.servers.unreachable(s)
			} else if !errors.Is(err, logcore.ErrWrongPageServer) {
				break
			}
			if ctx.Err() != nil {
				break
			}
		}
		lost := errors.Is(err, ErrUnavailable) || errors.Is(err, logcore.ErrWrongPageServer)
		if !refused(err) && !lost || !retry.wait(ctx) {
			return resp, err
		}
		if lost {
			_ = c.findStripes(ctx, "") // who else there is
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
	return errors.Is(err, logcore.ErrOverloaded) || errors.Is(err, logcore.ErrNotLeader) || errors.Is(err, logcore.ErrMoved)
}

// budget spaces repeated attempts out and ends them.
type budget struct {
	total time.Duration
	until time.Time
	pause time.Duration
}

const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 200 * time.Millisecond
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
