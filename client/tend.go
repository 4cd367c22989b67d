package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// tend looks after a writer: when its channel ends it finds out where to go on, or gives
// up once the retry budget since the last progress is spent; and it renews the lease of a
// writer that is idle, which also finds out early that it was fenced.
func (w *Writer) tend(ctx context.Context) {
	retry, hops := newBudget(w.c.opts.RetryFor), 0
	renew := time.NewTicker(max(w.lease/3, 10*time.Millisecond))
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			w.renew()
			continue
		case <-w.work:
		}
		w.mu.Lock()
		fault, ended := w.fault, w.err != nil
		w.fault = nil
		if w.acked {
			w.acked, hops = false, 0
			retry.reset()
		}
		if ended {
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		if fault != nil {
			hops++
			w.deal(ctx, fault, retry, hops)
		}
	}
}

// renew has an idle writer's lease renewed; appends renew it anyway.
func (w *Writer) renew() {
	w.mu.Lock()
	if len(w.queue) == 0 && !w.closing {
		w.renewDue = true
		w.scheduleAndUnlock()
		return
	}
	w.mu.Unlock()
}

// deal decides what follows from a fault.
func (w *Writer) deal(ctx context.Context, fault error, retry *budget, hops int) {
	w.learn(fault)
	w.mu.Lock()
	at, idle := w.at, len(w.queue) == 0
	w.mu.Unlock()
	hint, next := "", at
	several := w.c.router.several()
	switch {
	case w.c.router.learn(w.log, fault):
		if hint = wire.LeaderHint(fault); hint != "" || errors.Is(fault, logcore.ErrNotLeader) {
			next = w.c.router.moved(w.log, at, hint)
		}
	case several && (errors.Is(fault, logcore.ErrSequenceGap) || errors.Is(fault, logcore.ErrLogNotFound)):
		// A member that does not know yet what another one acknowledged: it leads no more, or not yet.
		w.c.router.moved(w.log, at, "")
	case w.c.unfit(fault):
		w.c.router.fails(at)
		w.c.router.moved(w.log, at, "")
	case !errors.Is(fault, logcore.ErrOverloaded):
		w.settle(fault)
		retry.reset()
		w.release()
		return
	}
	if idle {
		retry.reset() // only the renewal failed; the next one tries again
	} else if (hint == "" || next == at || hops > hopsMax) && !retry.wait(ctx) {
		if ctx.Err() != nil {
			return
		}
		w.settle(fault)
		retry.reset()
	}
	w.release()
}

// release lets the writer go on, wherever its log is led now.
func (w *Writer) release() {
	w.mu.Lock()
	w.held = false
	if to := w.c.router.to(w.log); to != w.at {
		w.at, w.scheduled = to, false
	}
	if len(w.queue) == 0 {
		w.mu.Unlock()
		return
	}
	w.scheduleAndUnlock()
}

// learn takes in what a typed refusal says about what is pending: the service
// acknowledges everything it took before it ends a channel with an error of its own,
// and writes nothing of what was sent behind, so what this channel carried and nobody acknowledged is not in the log.
func (w *Writer) learn(err error) {
	if !nothingWritten(err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.queue {
		if p.attempts == 1 {
			p.attempts = 0
		}
	}
}

// settle decides what a final error means for what is pending. When it is known that
// no attempt at any pending entry was taken, they fail and their sequence numbers are
// used again. Otherwise an attempt may still arrive, so the writer ends. So it does in the
// middle of a transaction of several parts: some of them may be in the log.
func (w *Writer) settle(err error) {
	w.mu.Lock()
	clean := nothingWritten(err) && len(w.queue) > 0
	for _, p := range w.queue {
		if p.attempts > 0 || p.entry.Kind != int32(logcore.KindData) {
			clean = false
		}
	}
	if clean {
		w.sequence = w.queue[0].entry.Sequence - 1
		err = fmt.Errorf("client: log %q: nothing was written: %w", w.log, err)
		if w.endOnFailure && w.err == nil {
			w.err = err
		}
		w.failLocked(err)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	if errors.Is(err, logcore.ErrFenced) {
		err = fmt.Errorf("client: log %q, epoch %d: %w", w.log, w.epoch, err)
	} else {
		err = fmt.Errorf("%w: log %q: %w", ErrUnknownOutcome, w.log, err)
	}
	w.poison(err)
}

// nothingWritten lists the refusals that come before an entry is ordered.
func nothingWritten(err error) bool {
	return errors.Is(err, logcore.ErrTooLarge) || errors.Is(err, logcore.ErrInvalid) || errors.Is(err, logcore.ErrDiskFull) || refused(err)
}

// probe asks the other members who leads the log, and returns the leader's address when
// it is not m.
func (w *Writer) probe(ctx context.Context, m *member) string {
	ctx, cancel := context.WithTimeout(ctx, max(w.c.opts.ProbeAfter, watchEvery))
	defer cancel()
	members := w.c.router.all()
	found := make(chan string, len(members))
	var running sync.WaitGroup
	for _, other := range members {
		if other == m {
			continue
		}
		running.Go(func() {
			_, err := other.logs.RenewWriter(ctx, &logcorev1.RenewWriterRequest{Log: w.log, Epoch: uint64(w.epoch), Incarnation: w.incarnation})
			switch hint := wire.LeaderHint(wire.FromStatus(err)); {
			case err == nil:
				found <- other.addr
			case hint != "" && hint != m.addr:
				found <- hint
			default:
				return
			}
			cancel()
		})
	}
	running.Wait()
	select {
	case addr := <-found:
		return addr
	default:
		return ""
	}
}
