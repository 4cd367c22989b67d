package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

const (
	tickEvery        = 50 * time.Millisecond
	electionTicks    = 10      // the shortest election timeout; the longest is twice that
	batchBytesMax    = 4 << 20 // of one proposal of several entries
	applyBytesMax    = 32 << 20
	inflightBytesMax = 16 << 20 // of entries on their way to one member
	roomTrusted      = 64 << 20 // the disk is asked for its room every so many bytes
	entryOverhead    = 128      // of an entry on the disk, at most
	startBytesRead   = 1 << 20
)

// Group is one member of a shard's Raft group, driven over a real hot log: by its loop, a goroutine
// that owns the Member. Its methods may be used by many goroutines.
type Group struct {
	*view   // what the member shows
	opts    Options
	log     *slog.Logger
	hot     *hotlog.Log
	report  hotlog.RecoveryReport
	file    *stateFile
	member  *Member // the loop's; others call what is said to be for any goroutine
	inbox   inbox
	heldUp  heldUp // the loop's
	metrics *metrics
	wake    chan struct{} // to the loop: there is something to do
	stopped chan struct{} // the loop has ended
	closed  sync.Once
}

// Request is something to be written.
type Request struct {
	// Bytes is the memory it holds while it waits, and what its entries take on the
	// disk, about.
	Bytes int
	// Prepare checks the request against what will be once everything before it is
	// applied, and proposes its entries. It runs on the loop and must not block. When it
	// returns an error nothing may have been proposed.
	Prepare func(*Proposer) error
	// Done is called once, on the loop, in the order of the LSNs: with nil when every
	// entry of the request is durable at a quorum and applied, with Prepare's error, or with
	// the reason why that isn't known. It must not block.
	Done func(error)
}

// Open opens or creates the group's member in opts.Log.Dir and returns when it leads
// and has applied everything that was committed, or when ctx ends. On a full disk
// it may return before it leads: what was committed can be read, archived and trimmed,
// requests are refused with logcore.ErrDiskFull, and once there is room it leads.
func Open(ctx context.Context, opts Options) (*Group, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	opts.Log.LogOf = catalog.LogOf // fixed: footers are the same bytes on every member
	hot, report, err := hotlog.Open(ctx, opts.Log)
	if err != nil {
		return nil, err
	}
	g, err := open(ctx, opts, hot, report)
	if err != nil {
		hot.Close()
		return nil, err
	}
	if err := g.waitReady(ctx); err != nil {
		g.Close()
		return nil, fmt.Errorf("replication: shard %d: %w", opts.Log.Shard, err)
	}
	return g, nil
}

// Submit queues a request and returns without waiting for it. A full queue is
// logcore.ErrOverloaded; after a failed write it is logcore.ErrPoisoned, after Close logcore.ErrClosed.
// When it returns an error Done is not called.
func (g *Group) Submit(r Request) error { return g.member.Submit(r) }

// Do submits a request of so many bytes and waits until it is durable and applied. When ctx ends first
// it returns ctx's error, and whether the request is carried out is not known.
func (g *Group) Do(ctx context.Context, bytes int, prepare func(*Proposer) error) error {
	done := make(chan error, 1)
	if err := g.Submit(Request{Bytes: bytes, Prepare: prepare, Done: func(err error) { done <- err }}); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Group) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Err returns why no request is taken any more, nil while they are.
func (g *Group) Err() error { return g.member.Err() }

// ReadIndex waits until everything that was committed anywhere when it was called is applied here: what
// View shows and Committed covers then is what a linearizable read must see. It is
// logcore.ErrNotLeader where the group isn't led from, or no longer.
func (g *Group) ReadIndex(ctx context.Context) error {
	done := make(chan error, 1)
	if err := g.member.ReadIndex(func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HotLog returns the group's hot log, to be read, archived and trimmed. Read it up to
// Committed only.
func (g *Group) HotLog() *hotlog.Log { return g.hot }

// EntryBytesMax returns the largest payload of an entry. A longer one must not be proposed.
func (g *Group) EntryBytesMax() int { return g.opts.Log.EntryBytesMax }

// Shard returns the group's shard.
func (g *Group) Shard() logcore.ShardID { return g.opts.Log.Shard }

// Recovery returns what opening the hot log found.
func (g *Group) Recovery() hotlog.RecoveryReport { return g.report }

// Status describes a group.
type Status struct {
	Member uint64 // this one's id
	Term   uint64
	// Incarnation of the shard: chosen at random when it was created or restored.
	Incarnation uint64
	Leading     bool
	Leader      uint64 // as far as is known; 0: nobody
	Members     Members
	First       logcore.LSN // of the hot log
	Last        logcore.LSN // handed to the hot log
	Committed   logcore.LSN
	Queued      int   // requests that wait for the loop
	Quiet       bool  // it neither ticks nor says anything until something happens
	Err         error // why no request is taken any more
	Stalled     error // why what was proposed waits: the disk is full; nil when it doesn't
}

// Status returns the group's present state.
func (g *Group) Status() Status {
	s := Status{Member: g.member.ID(), Term: g.Term(), Incarnation: g.member.Incarnation(), Leading: g.Leading(), Leader: g.Leader(), Members: g.Members(),
		First: g.hot.First(), Last: g.hot.Last(), Committed: g.Committed(), Quiet: g.Quiet()}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Queued, s.Err, s.Stalled = len(g.member.queue), g.member.stateErr(), g.stalled
	return s
}

// Close refuses what is queued, waits for what is proposed, and closes the hot log. A
// second call does nothing.
func (g *Group) Close() (err error) {
	g.member.close()
	g.poke()
	<-g.stopped
	g.closed.Do(func() {
		g.metrics.unregister()
		if err = errors.Join(g.hot.Close(), g.file.close()); errors.Is(err, logcore.ErrPoisoned) {
			err = nil // everybody who waited was told
		}
	})
	return err
}
