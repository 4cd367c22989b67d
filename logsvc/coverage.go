package logsvc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// coverage waits for the archive on behalf of logs whose entries are acknowledged once they
// are archived. One flush at a time is under way, for everything that waits by then: while
// it lasts the next batch gathers.
type coverage struct {
	s    *Service
	wake chan struct{} // to the flusher: want rose; capacity 1

	mu    sync.Mutex
	want  logcore.LSN   // guarded by mu: the highest LSN that anybody waits for
	rises chan struct{} // guarded by mu: closed and replaced when the archive covers more
	err   error         // guarded by mu: why the last flush failed; nil when it did not
}

// coveragePause is how long the flusher rests after a flush that failed.
const coveragePause = 100 * time.Millisecond

func newCoverage(s *Service) *coverage {
	return &coverage{s: s, wake: make(chan struct{}, 1), rises: make(chan struct{})}
}

// check says whether the service can keep what a log was promised.
func (c *coverage) check(l *catalog.Log) error {
	if l.Durability == catalog.DurabilityArchive && c.s.opts.Archive == nil {
		return fmt.Errorf("%w: log %q is acknowledged once it is archived, and there is no archive: start the service with targets", logcore.ErrInvalid, l.Name)
	}
	return nil
}

// ask has everything up to lsn archived soon. It does not wait.
func (c *coverage) ask(lsn logcore.LSN) {
	c.mu.Lock()
	c.want = max(c.want, lsn)
	c.mu.Unlock()
	signal(c.wake)
}

// risen returns a channel that is closed when the archive next covers more.
func (c *coverage) risen() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rises
}

// wait returns once the archive covers lsn. When ctx ends before, the entries are durable
// on a quorum and will be archived: appending them again, under the same sequence, waits on.
func (c *coverage) wait(ctx context.Context, lsn logcore.LSN) error {
	for asked := false; ; asked = true {
		rises := c.risen()
		if c.s.archived() >= lsn {
			return nil
		}
		if !asked {
			c.ask(lsn)
		}
		select {
		case <-rises:
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("waiting for the archive to cover LSN %d: %w (last problem: %v)", lsn, context.Cause(ctx), c.err)
		}
	}
}

// run flushes as long as somebody waits.
func (c *coverage) run(ctx context.Context) {
	for {
		c.mu.Lock()
		want := c.want
		c.mu.Unlock()
		if want <= c.s.archived() {
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := c.s.opts.Archive.Flush(ctx, c.s.group.Shard(), want)
		c.mu.Lock()
		c.err = err
		close(c.rises)
		c.rises = make(chan struct{})
		c.mu.Unlock()
		if err == nil {
			continue
		}
		select {
		case <-time.After(coveragePause):
		case <-ctx.Done():
			return
		}
	}
}
