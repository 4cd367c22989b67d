package roles

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/node"
)

// A node of a cluster whose disk fails too often ends, and whoever supervises it decides.
const (
	reopensMax    = 3
	reopensWithin = 10 * time.Minute
)

// reopening is a role that outlives a failed write: what can't be trusted any more is closed and opened again, in this process,
// from what the disk holds, as after a restart. What was acknowledged is on the disks of a quorum; the rest comes from the
// others.
type reopening struct {
	log    *slog.Logger
	open   func(ctx context.Context, why error) (Running, error)
	addr   string
	failed chan error
	stop   context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	now   Running     // nil while it is opened again; guarded by mu
	times []time.Time // when it was opened again lately; guarded by mu
}

// newReopening looks after a role that was started; open starts it again.
func newReopening(first Running, log *slog.Logger, open func(ctx context.Context, why error) (Running, error)) *reopening {
	ctx, stop := context.WithCancel(context.Background())
	r := &reopening{log: log, open: open, addr: first.Addr(), failed: make(chan error, 1), stop: stop, ended: make(chan struct{}), now: first}
	go r.run(ctx, first)
	return r
}

// Addr implements Running.
func (r *reopening) Addr() string { return r.addr }

// Failed implements Running.
func (r *reopening) Failed() <-chan error { return r.failed }

// Stop implements Running.
func (r *reopening) Stop() error {
	r.stop()
	<-r.ended
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		return nil
	}
	return r.now.Stop()
}

func (r *reopening) run(ctx context.Context, now Running) {
	defer close(r.ended)
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case err = <-now.Failed():
		}
		why := err
		var more *node.MoreShards
		switch {
		case errors.As(err, &more):
			r.log.Info("the logs are closed and opened again: there are to be more shards", "shards", more.Shards)
		case errors.Is(err, logcore.ErrPoisoned) && r.mayReopen(time.Now()):
			r.log.Error("a log can't be written any more: it is closed, and opened again from what the disk holds", "err", err)
		default:
			r.failed <- err
			return
		}
		r.set(nil)
		if err := now.Stop(); err != nil {
			r.log.Warn("closing what is to be opened again", "err", err)
		}
		if now, err = r.open(ctx, why); err != nil {
			r.failed <- err
			return
		}
		r.set(now)
		r.log.Info("opened again", "after failed writes", r.reopens(), "most", reopensMax, "within", reopensWithin)
	}
}

func (r *reopening) set(now Running) {
	r.mu.Lock()
	r.now = now
	r.mu.Unlock()
}

// reopens returns how often it was opened again lately.
func (r *reopening) reopens() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.times)
}

// mayReopen keeps the budget.
func (r *reopening) mayReopen(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.times) > 0 && now.Sub(r.times[0]) > reopensWithin {
		r.times = r.times[1:]
	}
	if len(r.times) >= reopensMax {
		return false
	}
	r.times = append(r.times, now)
	return true
}
