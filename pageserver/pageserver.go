package pageserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/pageserver/checkpoint"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// Server is a page server. Its methods may be called by many goroutines.
type Server struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	cache   *pageCache
	written *writtenPages
	readers readerPool
	imager  imager
	current *currentPages
	lock    *durable.DirLock

	// storeMu is held for reading by whoever uses db or a log's stored state, and for
	// writing by whoever replaces the store or resets a log.
	storeMu sync.RWMutex
	db      *pebble.DB // guarded by storeMu; nil once closed
	dirty   atomic.Bool

	registry registry
	// adoptMu is held by whoever takes over or throws away logs, so that a state is
	// thrown away once. It comes before storeMu.
	adoptMu sync.Mutex

	// intake says whether compactions of the store wait.
	intake intake

	room    room
	archive archiveState // of Options.Archive
	// sourceUp: the source answered when it was asked for its logs last.
	sourceUp atomic.Bool
	// sourceHeard: it has answered in this process.
	sourceHeard atomic.Bool
	healMu      sync.Mutex // one page is healed at a time
	// rewriteMu is held by whoever removes versions or writes one again.
	rewriteMu sync.Mutex

	local       *checkpoint.Local // the store's files; those missing come from a checkpoint
	checkpoints checkpoints
	heat        heat
	recacher    *recacher
	tables      damagedTables
	refetched   map[string]bool    // tables fetched again since the store was begun; of who opens it
	warming     context.CancelFunc // of what is fetched first; of who opens the store
	warmers     sync.WaitGroup
	// distrusted: a store could not be completed from a checkpoint, so the next one is
	// built from the logs. Another checkpoint ends it.
	distrusted atomic.Bool

	// rebuild holds why the store has to be built again, once it has to.
	rebuild chan error
	// kick asks Run to look at the source at once.
	kick chan struct{}

	runMu   sync.Mutex
	running *followers // set while Run runs; guarded by runMu
}

// Open opens the version store in Options.Dir, or begins one. The Server answers
// once Run runs. Errors wrap logcore.ErrInvalid, logcore.ErrInUse,
// logcore.ErrUnsupportedVersion or logcore.ErrDiskFull, which leaves the store as it is; a
// damaged store is none: it is put aside, counted and built again.
func Open(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("pageserver: %w", err)
	}
	lock, err := durable.Lock(opts.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, log: opts.Logger, cache: newPageCache(opts.PageCacheBytes), written: newWrittenPages(opts.WriteCacheBytes),
		// As many as there can be images of 4 KiB, and a few for tiny caches.
		current: newCurrentPages(int(max(256, opts.PageCacheBytes>>12))),
		lock:    lock, rebuild: make(chan error, 1), kick: make(chan struct{}, 1)}
	s.imager.s = s
	s.recacher = newRecacher(s)
	s.room.dir, s.room.reserve = opts.Dir, uint64(opts.DiskReserveBytes)
	s.room.hurry.Store(true) // who opens it waits
	s.metrics = newMetrics(s)
	if s.local, err = checkpoint.OpenLocal(context.Background(), filepath.Join(opts.Dir, storeDir), opts.Checkpoints); err == nil {
		err = s.openAndLoad()
	}
	if err != nil {
		s.stopWarming()
		s.metrics.unregister(opts.Registerer)
		lock.Unlock()
		return nil, err
	}
	if opts.Decodings != nil {
		opts.Decodings.users.Add(1)
	}
	return s, nil
}

// openAndLoad opens the store and takes over what it holds.
func (s *Server) openAndLoad() error {
	db, states, known, err := s.openSound()
	if err != nil {
		return err
	}
	s.drainRebuild()
	s.db = db
	s.registry.load(states)
	for _, l := range s.registry.all() {
		// An unknown format matters to who decodes, and is told then.
		if format, err := s.opts.Formats.Named(l.info().Format); err == nil {
			l.setDecoder(format.Decoder)
		}
	}
	s.setPoints(known)
	return nil
}

// Register adds the page service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	logcorev1.RegisterPageServiceServer(r, s.Service())
}

// Service returns the page service.
func (s *Server) Service() logcorev1.PageServiceServer { return &service{s: s} }

// Run follows the source's logs until ctx is done, and returns nil then. It must run
// once at a time. Errors of the source, of one log or of the store do not end it:
// they are logged, counted, and tried again or healed.
func (s *Server) Run(ctx context.Context) error {
	if s.room.abandoned.Load() {
		return s.room.isStuck() // it has to be opened again
	}
	defer context.AfterFunc(ctx, func() { s.room.hurry.Store(true) })()
	for {
		reason := s.runUntilDamaged(ctx)
		if reason == nil {
			return nil
		}
		if err := s.rebuildStore(reason); err != nil {
			return err
		}
	}
}

// runUntilDamaged follows the logs and returns why the store must be built again, or
// nil when ctx is done.
func (s *Server) runUntilDamaged(ctx context.Context) error {
	s.room.hurry.Store(false)
	if ctx.Err() != nil { // what Run set is not to be lost
		s.room.hurry.Store(true)
	}
	ctx, cancel := context.WithCancel(ctx)
	f := newFollowers(ctx)
	s.runMu.Lock()
	s.running = f
	s.runMu.Unlock()
	defer func() {
		s.runMu.Lock()
		s.running = nil
		s.runMu.Unlock()
		cancel()
		f.wait()
	}()
	f.group.Go(func() { s.flushLoop(ctx) })
	if s.opts.ImageBytesPerSecond > 0 {
		f.group.Go(func() { s.imager.run(ctx) })
	}
	f.group.Go(func() { s.recacher.run(ctx) })
	f.group.Go(func() { s.retentionLoop(ctx) })
	if s.opts.Archive != nil {
		f.group.Go(func() { s.archiveLoop(ctx) })
	}
	if s.opts.Checkpoints != nil {
		f.group.Go(func() { s.checkpointLoop(ctx) })
		f.group.Go(func() { s.fetchLoop(ctx) })
	}

	poll := time.NewTicker(s.opts.PollInterval)
	defer poll.Stop()
	for {
		s.refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case reason := <-s.rebuild:
			return reason
		case <-poll.C:
		case <-s.kick:
		}
	}
}

// rebuildStore replaces what is damaged of the store, or throws it away and begins a new
// one; the followers fill it.
func (s *Server) rebuildStore(reason error) error {
	s.log.Error("pageserver: the page store is damaged", "dir", s.opts.Dir, "reason", reason)
	s.room.hurry.Store(true) // readers wait
	s.storeMu.Lock()
	defer s.storeMu.Unlock()
	s.readers.renew()
	s.closeDamaged(s.db)
	s.db = nil
	if err := s.replaceDamaged(); err != nil {
		return err
	}
	db, states, known, err := s.openSound()
	if err != nil {
		return err
	}
	s.drainRebuild()
	s.db = db
	for _, l := range s.registry.all() {
		l.reset(stateValue{incarnation: l.info().Incarnation, parent: l.info().Parent, branchLSN: l.info().BranchLSN, name: l.info().Name, format: l.info().Format})
	}
	s.registry.resume(states)
	s.setPoints(known)
	return nil
}

// closeDamaged closes a store that is not used again: its error says nothing new.
func (s *Server) closeDamaged(db *pebble.DB) {
	if err := db.Close(); err != nil {
		s.log.Debug("pageserver: close of the damaged store", "err", err)
	}
}

func (s *Server) drainRebuild() {
	select {
	case <-s.rebuild:
	default:
	}
}

// countDamage counts and logs damage that was found.
func (s *Server) countDamage(err error) {
	s.opts.Corruptions.Inc()
	s.log.Error("pageserver: damage detected", "dir", s.opts.Dir, "err", err)
}

// damaged counts damage of the store as a whole and asks Run to build it again.
func (s *Server) damaged(err error) {
	select {
	case s.rebuild <- err:
		s.countDamage(err)
	default: // counted, and asked already
	}
}

// classify returns an error of Pebble that says that the store is damaged as one that
// wraps logcore.ErrCorrupt, and any other error as it is.
func (s *Server) classify(err error) error {
	if err != nil && !errors.Is(err, logcore.ErrCorrupt) && pebble.IsCorruptionError(err) {
		return &logcore.CorruptionError{Place: s.opts.Dir, Object: storeDir, Offset: -1, Reason: err.Error()}
	}
	return err
}

// noteStoreError asks for a rebuild when err, which came from Pebble or from a value
// that cannot be healed by itself, says that the store is damaged. It returns the
// error classified.
func (s *Server) noteStoreError(err error) error {
	err = s.classify(err)
	if errors.Is(err, logcore.ErrCorrupt) {
		s.damaged(err)
	}
	return err
}

// Close makes what was ingested durable and closes the store. Run must have
// returned. Requests that come later fail with logcore.ErrClosed.
func (s *Server) Close() error {
	s.room.hurry.Store(true)
	// Who waits for what no follower will bring goes elsewhere at once.
	for _, l := range s.registry.all() {
		l.update(func() { l.closed = true })
	}
	s.storeMu.Lock()
	defer s.storeMu.Unlock()
	if s.db == nil {
		return nil
	}
	if s.opts.Decodings != nil {
		s.opts.Decodings.users.Add(-1)
	}
	s.metrics.unregister(s.opts.Registerer)
	s.stopWarming()
	err := s.saveStates()
	s.readers.renew()
	err = errors.Join(err, s.flushStore(context.Background()), s.db.Close(), s.local.Close(), s.lock.Unlock())
	s.db = nil
	if err != nil {
		return fmt.Errorf("pageserver: close %s: %w", s.opts.Dir, err)
	}
	return nil
}

// flushLoop makes what was ingested durable every FlushInterval, so that a restart
// has little to ingest again.
func (s *Server) flushLoop(ctx context.Context) {
	tick := time.NewTicker(s.opts.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.dirty.Swap(false) {
			s.readers.renew() // tables may be gone since
			continue
		}
		if err := s.flush(ctx); err != nil {
			s.dirty.Store(true)
			if s.room.isStuck() == nil && ctx.Err() == nil {
				s.log.Warn("pageserver: flush failed; it is tried again", "err", err)
			}
		}
	}
}

func (s *Server) flush(ctx context.Context) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if err := s.saveStates(); err != nil {
		return err
	}
	return s.flushStore(ctx)
}

// saveStates writes the position of every log whose position moved without an entry.
// The caller holds storeMu.
func (s *Server) saveStates() error {
	for _, l := range s.registry.all() {
		if err := l.saveState(s); err != nil {
			return err
		}
	}
	return nil
}
