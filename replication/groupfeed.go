package replication

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// feedPartsMax is how many parts of a feeding may wait for the disk.
const feedPartsMax = 4

// Feeding is the catching up of a group's member by its owner; see Member.Feed. One goroutine uses it.
type Feeding struct {
	g     *Group
	next  logcore.LSN
	parts chan struct{} // one for each part that is not durable yet
	over  bool
}

// Feed begins to feed the group's member, for a message that Options.OnSnapshot was given.
func (g *Group) Feed(ctx context.Context, snapshot *raftpb.Message) (*Feeding, error) {
	f := &Feeding{g: g, parts: make(chan struct{}, feedPartsMax)}
	err := g.onLoop(ctx, func(m *Member) (err error) {
		f.next, err = m.StartFeed(snapshot)
		return err
	})
	return f, err
}

// onLoop runs f on the loop and waits for it.
func (g *Group) onLoop(ctx context.Context, f func(*Member) error) error {
	result := make(chan error, 1)
	g.call(func(m *Member) { result <- f(m) })
	select {
	case err := <-result:
		return err
	case <-g.stopped:
		return fmt.Errorf("replication: shard %d: %w", g.opts.Log.Shard, logcore.ErrClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Next returns the LSN that Add must begin with.
func (f *Feeding) Next() logcore.LSN { return f.next }

// Add feeds committed entries, from Next on. It waits while too many are on their way to the disk. The entries
// belong to the group.
func (f *Feeding) Add(ctx context.Context, entries []logcore.Entry) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	err := f.g.onLoop(ctx, func(m *Member) error { return m.Feed(entries, func() { <-f.parts }) })
	if err == nil {
		f.next = entries[len(entries)-1].LSN + 1
	}
	return err
}

// take waits for room for one more part, and takes it.
func (f *Feeding) take(ctx context.Context) error {
	for {
		changed := f.g.Changed()
		if err := f.g.Err(); err != nil {
			return err
		}
		select {
		case f.parts <- struct{}{}:
			return nil
		case <-changed: // the group may have ended
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Settle waits until everything that was added is durable.
func (f *Feeding) Settle(ctx context.Context) error {
	for range feedPartsMax {
		if err := f.take(ctx); err != nil {
			return err
		}
	}
	for range feedPartsMax {
		<-f.parts
	}
	return nil
}

// Finish waits until everything is durable and the member goes on.
func (f *Feeding) Finish(ctx context.Context) error {
	if err := f.Settle(ctx); err != nil {
		return err
	}
	f.over = true
	return f.g.onLoop(ctx, func(m *Member) error {
		m.Advance()
		done, err := m.FinishFeed()
		if err == nil && !done {
			m.StopFeed()
			err = fmt.Errorf("%w: replication: the log was fed up to LSN %d only", logcore.ErrInvalid, f.next-1)
		}
		return err
	})
}

// Close gives the feeding up, unless it was finished. What was fed stays.
func (f *Feeding) Close() {
	if !f.over {
		f.over = true
		f.g.call(func(m *Member) { m.StopFeed() })
	}
}

// Unreachable tells the member that messages to another one were lost.
func (g *Group) Unreachable(member uint64) {
	g.inbox.mu.Lock()
	if !slices.Contains(g.inbox.lost, member) {
		g.inbox.lost = append(g.inbox.lost, member)
	}
	g.inbox.mu.Unlock()
	g.poke()
}

// Gone tells the member that another one's process has ended.
func (g *Group) Gone(member uint64) { g.call(func(m *Member) { m.LeaderGone(member) }) }
