package hotlog

import (
	"context"
	"fmt"

	"github.com/logcore/logcore"
)

// Ticket stands for entries that were enqueued. Tickets become durable in their order.
type Ticket struct {
	// LSN of the last of the entries.
	LSN  logcore.LSN
	life uint32
}

// livesKept bounds how many failures a late Wait is told of in detail.
const livesKept = 16

// life is a stretch of the log's time in which LSNs only rise. It ends when entries
// under way fail, or the tail is truncated: their LSNs are given out again then.
type life struct {
	number  uint32
	durable logcore.LSN // when it ended
	err     error       // why everything above failed
}

// endLife makes all tickets above durable fail; mu is held.
func (l *Log) endLife(durable logcore.LSN, err error) {
	if len(l.lives) == livesKept {
		l.lives = append(l.lives[:0], l.lives[1:]...)
	}
	l.lives = append(l.lives, life{number: l.life.Load(), durable: durable, err: err})
	l.life.Add(1)
}

// Enqueue is Submit for many callers: it numbers the entries, writing their LSNs into
// the slice, and returns a ticket instead of taking a callback. Options.OnDurable is told
// once for each batch; Durable, Done and Wait ask. Errors are those of Submit.
func (l *Log) Enqueue(entries []logcore.Entry) (Ticket, error) {
	return l.enqueue(entries, true, nil)
}

// Done reports, without waiting, whether a ticket is settled: durable (nil) or failed.
func (l *Log) Done(t Ticket) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settled(t)
}

// settled is Done with mu held.
func (l *Log) settled(t Ticket) (bool, error) {
	if t.life == l.life.Load() {
		if l.Durable() >= t.LSN {
			return true, nil
		}
		err := l.err
		if err == nil && l.ended {
			err = fmt.Errorf("hotlog: %s: %w", l.dir.Path(), logcore.ErrClosed)
		}
		return err != nil, err
	}
	for _, x := range l.lives {
		if x.number == t.life && t.LSN <= x.durable {
			return true, nil
		}
		if x.number == t.life {
			return true, x.err
		}
	}
	return true, fmt.Errorf("hotlog: LSN %d, outcome unknown: asked after %d later failures", t.LSN, livesKept)
}

// Wait returns when a ticket is settled, with the highest durable LSN, so that all
// tickets up to it need no Wait of their own. When ctx ends first, the outcome of the
// entries is unknown.
func (l *Log) Wait(ctx context.Context, t Ticket) (logcore.LSN, error) {
	err := l.await(ctx, func() (bool, error) { return l.settled(t) })
	return l.Durable(), err
}

// await returns when settled says so, which is called with mu held, or ctx ends.
func (l *Log) await(ctx context.Context, settled func() (bool, error)) error {
	for {
		l.mu.Lock()
		if done, err := settled(); done {
			l.mu.Unlock()
			return err
		}
		if l.advanced == nil {
			l.advanced = make(chan struct{})
		}
		advanced := l.advanced
		l.mu.Unlock()
		select {
		case <-advanced:
		case <-ctx.Done():
			return fmt.Errorf("hotlog: waited, LSN %d is durable: %w", l.Durable(), ctx.Err())
		}
	}
}

// AppendNext is Append for many callers: the log numbers the entries, and writes their
// LSNs into the slice. Errors are those of Append.
func (l *Log) AppendNext(ctx context.Context, entries []logcore.Entry) error {
	return l.append(ctx, entries, true)
}
