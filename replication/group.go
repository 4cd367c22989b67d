package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

const (
	tickEvery      = 100 * time.Millisecond
	electionTicks  = 10
	batchBytesMax  = 4 << 20 // of one proposal of several entries
	applyBytesMax  = 32 << 20
	roomTrusted    = 64 << 20 // the disk is asked for its room every so many bytes
	entryOverhead  = 128      // of an entry on the disk, at most
	startBytesRead = 1 << 20
)

// Group is one member of a shard's Raft group. Its methods may be used by many
// goroutines.
type Group struct {
	opts        Options
	log         *slog.Logger
	hot         *hotlog.Log
	report      hotlog.RecoveryReport
	incarnation uint64 // as in the state file; never changes while it is open
	loop        loop   // owned by the goroutine that runs it
	stopped     chan struct{}

	committed atomic.Uint64 // LSN of the last applied entry; written by the loop
	leading   atomic.Bool   // requests are taken; written by the loop
	term      atomic.Uint64 // written by the loop
	newest    atomic.Uint64 // LSN of the newest applied checkpoint; written by the loop

	// catalogMu guards applied: the loop writes, readers look.
	catalogMu sync.RWMutex
	applied   *catalog.State

	mu          sync.Mutex
	queue       []Request     // guarded by mu
	queueBytes  int64         // guarded by mu
	completions []error       // of storage writes that finished, in order; guarded by mu
	changed     chan struct{} // closed and replaced when committed rises or the group ends; guarded by mu
	err         error         // why no request is taken any more; guarded by mu
	closing     bool          // guarded by mu
	stalled     error         // why entries wait for room on the disk; nil when none do; guarded by mu
	readable    bool          // everything committed was applied when it stalled; guarded by mu

	wake chan struct{} // to the loop: the queue or the completions have something
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
func (g *Group) Submit(r Request) error {
	g.mu.Lock()
	if err := g.stateErr(); err != nil {
		g.mu.Unlock()
		return err
	}
	if len(g.queue) >= g.opts.QueueRequestsMax || len(g.queue) > 0 && g.queueBytes+int64(r.Bytes) > g.opts.QueueBytesMax {
		n, b := len(g.queue), g.queueBytes
		g.mu.Unlock()
		return fmt.Errorf("%w: shard %d: %d requests with %d bytes are waiting", logcore.ErrOverloaded, g.opts.Log.Shard, n, b)
	}
	g.queue = append(g.queue, r)
	g.queueBytes += int64(r.Bytes)
	g.mu.Unlock()
	g.poke()
	return nil
}

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

func (g *Group) stateErr() error {
	if g.err != nil {
		return g.err
	}
	if g.closing {
		return fmt.Errorf("replication: shard %d: %w", g.opts.Log.Shard, logcore.ErrClosed)
	}
	return nil
}

// Err returns why no request is taken any more, nil while they are.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stateErr()
}

// Committed returns the LSN of the last entry that is committed and applied: what
// readers may see.
func (g *Group) Committed() logcore.LSN { return logcore.LSN(g.committed.Load()) }

// Checkpoint returns the LSN of the newest applied checkpoint of the catalog, 0 when there
// is none: the hot log must be kept from its segment on.
func (g *Group) Checkpoint() logcore.LSN { return logcore.LSN(g.newest.Load()) }

// Changed returns a channel that is closed when Committed rises or the group ends. Ask
// for it before looking at Committed.
func (g *Group) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

func (g *Group) announce() {
	g.mu.Lock()
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
}

// View runs look on the applied catalog. The state must not be kept nor changed.
func (g *Group) View(look func(*catalog.State)) {
	g.catalogMu.RLock()
	defer g.catalogMu.RUnlock()
	look(g.applied)
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
	Term uint64
	// Incarnation of the shard: chosen at random when it was created or restored.
	Incarnation uint64
	Leading     bool
	First       logcore.LSN // of the hot log
	Last        logcore.LSN // handed to the hot log
	Committed   logcore.LSN
	Queued      int   // requests that wait for the loop
	Err         error // why no request is taken any more
	Stalled     error // why what was proposed waits: the disk is full; nil when it doesn't
}

// Status returns the group's present state.
func (g *Group) Status() Status {
	s := Status{Term: g.term.Load(), Incarnation: g.incarnation, Leading: g.leading.Load(), First: g.hot.First(), Last: g.hot.Last(), Committed: g.Committed()}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Queued, s.Err, s.Stalled = len(g.queue), g.stateErr(), g.stalled
	return s
}

// Close refuses what is queued, waits for what is proposed, and closes the hot log. A
// second call does nothing.
func (g *Group) Close() error {
	g.mu.Lock()
	already := g.closing
	g.closing = true
	g.mu.Unlock()
	g.poke()
	<-g.stopped
	if already {
		return nil
	}
	err := errors.Join(g.hot.Close(), g.loop.file.close())
	if errors.Is(err, logcore.ErrPoisoned) {
		return nil // everybody who waited was told
	}
	return err
}

// stored is called by the hot log, in order.
func (g *Group) stored(err error) {
	g.mu.Lock()
	g.completions = append(g.completions, err)
	g.mu.Unlock()
	g.poke()
}
