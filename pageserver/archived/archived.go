// Package archived reads logs from the archive itself, without the log service: for page
// servers that are far behind, or whose log service can't be reached. It needs the
// archive's targets and its key, and changes nothing there.
//
// Which logs there are, and in which shards their entries lie, it learns as the log service
// does: every segment begins with a checkpoint of the catalog, from which what is archived
// is folded on. Entries come in passes over a shard: whoever wants entries ahead of where a
// pass is joins it, so that a thousand logs that are read at once cost one reading of the
// archive and one decoding, not a thousand. Within a pass objects are fetched several at a
// time, ahead of their use, and handed out in order.
package archived

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/tiering"
)

// Options configure an Archive.
type Options struct {
	// Open opens the archive of a shard. It is called when the shard is first read, and again
	// after it failed. What the reader may hold ahead of its use is a pass's memory, and
	// there are PassesMax of them. Required.
	Open func(ctx context.Context, shard logcore.ShardID) (*tiering.Reader, error)
	// RefreshEvery is how old what is known of the archive may be. Zero means 2 s.
	RefreshEvery time.Duration
	// Logger gets what an operator should see; nil means slog.Default().
	Logger *slog.Logger
}

// PassesMax is how many passes are under way at a time, over all shards.
const PassesMax = 2

func (o Options) withDefaults() Options {
	if o.RefreshEvery == 0 {
		o.RefreshEvery = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Open == nil {
		errs = append(errs, fmt.Errorf("%w: archived: Open is required", logcore.ErrInvalid))
	}
	if o.RefreshEvery < 0 {
		errs = append(errs, fmt.Errorf("%w: archived: RefreshEvery %v: want a positive duration", logcore.ErrInvalid, o.RefreshEvery))
	}
	return errors.Join(errs...)
}

// Archive is the archive of all shards. Its methods may be called by many goroutines.
type Archive struct {
	opts   Options
	ctx    context.Context // ends the passes
	stop   context.CancelFunc
	passes sync.WaitGroup
	slots  chan struct{} // held by passes that are under way

	mu     sync.Mutex
	closed bool                       // guarded by mu
	shards map[logcore.ShardID]*shard // guarded by mu
}

var _ pageserver.Archive = (*Archive)(nil)

// New returns an Archive. Nothing is read before it is asked for something.
func New(opts Options) (*Archive, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	a := &Archive{opts: opts, shards: map[logcore.ShardID]*shard{}, slots: make(chan struct{}, PassesMax)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a, nil
}

// Close ends what is being read and waits for it.
func (a *Archive) Close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.passes.Wait()
	return nil
}

func (a *Archive) shard(id logcore.ShardID) *shard {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.shards[id]
	if s == nil {
		s = &shard{a: a, id: id, turn: make(chan struct{}, 1), running: map[*pass]struct{}{}}
		a.shards[id] = s
	}
	return s
}

// shardsMax bounds how many shards a damaged catalog can make this look for.
const shardsMax = 1024

// each visits the catalog of every shard as far as it is archived. A shard that can't be read
// does not keep the others from being visited.
func (a *Archive) each(ctx context.Context, visit func(*shard, *catalog.State)) error {
	shards, errs := 1, []error(nil)
	for id := 0; id < min(shards, shardsMax); id++ {
		s := a.shard(logcore.ShardID(id))
		err := s.withCatalog(ctx, func(c *catalog.State) {
			if id == 0 {
				shards = c.Shards()
			}
			visit(s, c)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("archived: shard %d: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// Logs implements pageserver.Archive.
func (a *Archive) Logs(ctx context.Context) (infos []pageserver.LogInfo, err error) {
	err = a.each(ctx, func(_ *shard, c *catalog.State) {
		for _, l := range c.Logs() {
			if !l.Gone {
				infos = append(infos, logInfo(c, l))
			}
		}
	})
	return infos, err
}

func logInfo(c *catalog.State, l *catalog.Log) pageserver.LogInfo {
	return pageserver.LogInfo{ID: l.ID, Name: l.Name, Format: l.PayloadFormat, Incarnation: c.Incarnation, Parent: l.Parent, BranchLSN: l.BranchLSN,
		First: l.FirstLSN(), WriterOpen: l.WriterOpen, Bytes: l.Bytes, Last: l.LastLSN, LastTime: l.LastTime, Committed: c.LSN + l.Base}
}

// place is where the entries of a log are, as far as a catalog knows: each extent ends, the last where the catalog does.
// Behind that the log may have left the shard.
type place struct {
	moves   uint64           // of the log's family, so far
	extents []catalog.Extent // the log's own, in order
	// truncated is the LSN below which entries were given up, 0 when none were.
	truncated logcore.LSN
}

// placeOf returns where a log of a shard's catalog has its own entries.
func placeOf(c *catalog.State, l *catalog.Log, shard logcore.ShardID) (place, error) {
	chain, err := c.Chain(l.ID, shard)
	if err != nil {
		return place{}, err // there is no log without its parents
	}
	p := place{moves: c.Root(l).Gen, truncated: l.TruncatedBefore}
	for _, e := range chain {
		if e.Last == catalog.Open {
			e.Last = c.LSN + e.Base
		}
		if e.Log == l.ID && e.First <= e.Last {
			p.extents = append(p.extents, e)
		}
	}
	return p, nil
}

// locate returns where a log's own entries are. Shards are archived each by itself, so one that the log has left may not
// show that yet: the most moves say which is right.
func (a *Archive) locate(ctx context.Context, log pageserver.LogInfo) (place, error) {
	var found *place
	var other uint64
	err := a.each(ctx, func(s *shard, c *catalog.State) {
		l, err := c.ByID(log.ID)
		if err != nil || l.Gone {
			return
		}
		if c.Incarnation != log.Incarnation || l.Name != log.Name {
			other = c.Incarnation
			return
		}
		if p, err := placeOf(c, l, s.id); err == nil && (found == nil || p.moves > found.moves) {
			found = &p
		}
	})
	switch {
	case found != nil:
		return *found, nil
	case other != 0:
		return place{}, fmt.Errorf("archived: log %q: %w: the archive is of incarnation %016x, these pages are of %016x", log.Name, logcore.ErrFenced, other, log.Incarnation)
	case err != nil:
		return place{}, err
	}
	return place{}, fmt.Errorf("archived: %w: %q is not in the archive", logcore.ErrLogNotFound, log.Name)
}

// Check implements pageserver.Archive.
func (a *Archive) Check(ctx context.Context) error {
	if err := a.shard(0).check(ctx); err != nil {
		return fmt.Errorf("archived: shard 0: %w", err)
	}
	return nil
}

// Unreachable implements pageserver.Archive.
func (a *Archive) Unreachable() []string { return a.shard(0).unreachable() }
