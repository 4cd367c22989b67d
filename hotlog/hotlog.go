// Package hotlog is one shard's log on local storage: it appends entries with
// group commit, reads them back, recovers them after a crash and never lies about
// any of it.
//
// One goroutine, the committer, writes. Submit encodes entries into the batch that
// is being filled while the batch before is under way to the disk; every caller of
// a batch shares its one write, and is told only when it is durable. Readers
// see durable entries only and never hold up the committer. When the next batch goes
// is decided by a controller (pace), in how many pieces by another (lanes).
//
// One caller that numbers its entries uses Submit or Append, as Raft does. Many that
// leave the numbers to the log use Enqueue, with one completion a batch
// (Options.OnDurable), or AppendNext, which waits.
//
// A failed write or sync poisons the log: nothing is acknowledged any more and
// nothing is written to that file again until the log is opened anew, which
// recovers from what the medium really holds. Running out of space is no write
// error: segments are allocated before they are needed, so it is refused before
// anything was written (logcore.ErrDiskFull), and the log goes on when there is room.
package hotlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/durable"
)

// Log is an open hot log. Its methods may be used by many goroutines; but the entries
// of Submit and Append come numbered, so those come from one at a time.
type Log struct {
	opts    Options
	dir     *segdir.Files
	lock    *durable.DirLock // nil when the directory needs none
	log     *slog.Logger
	metrics *metrics
	inline  bool // housekeeping runs on the committer, and nothing by the clock

	durable atomic.Uint64              // highest durable LSN; written by the committer
	view    atomic.Pointer[[]*segfile] // oldest first, immutable; replaced under mu

	// structMu is held for reading while a segment is read from the medium, and for
	// writing while one is dropped or cut. The commit path never takes it.
	structMu sync.RWMutex
	cuts     uint64 // truncations of the tail; written with structMu and mu held

	mu       sync.Mutex // guards all below, and segfile.sum
	last     logcore.LSN
	lastSum  uint32
	lastTerm uint64
	tail     *segfile // takes the next entry, or is sealed by the last one
	filling  *batch   // the newest of pending, when it takes more
	pending  []*batch
	spare    []*batch      // emptied batches
	newest   *batch        // the last one begun
	queued   int64         // bytes of entries not yet completed
	advanced chan struct{} // closed and replaced when durable rises, queued shrinks or the log ends; nil = nobody waits
	cache    cache
	pool     []poolFile
	nextSlot uint64
	err      error // why nothing is written any more
	closed   bool
	ended    bool          // the committer is gone
	life     atomic.Uint32 // number of the present one; written under mu, before durable can reach an LSN again
	lives    []life        // those that ended last

	// Between those who submit and the committer.
	submitted atomic.Uint64 // entries ever queued; written under mu
	full      atomic.Bool   // the oldest pending batch takes no more; written under mu
	parked    atomic.Bool   // the committer waits for wake

	// Of the committer alone.
	writer     writer
	pace       pace
	taken      uint64        // of submitted, how many it took
	waitedFrom int           // entries pending when the next commit was first put off; 0 = it was not
	seen       int           // entries pending when it last looked
	seenAt     time.Time     // when that changed
	begunAt    time.Time     // when the last commit began; at first when the log was opened
	endedAt    time.Time     // when the last commit ended
	unproven   bool          // the newest batch is later than the newest mark
	markedAt   time.Time     // when the newest mark that went with a batch was begun
	unmarked   int           // batches since
	lastWrite  time.Duration // of the newest batch
	unfolded   int64         // bytes durable since the finisher was woken

	wake      chan struct{}  // to the committer: something is pending
	commands  chan func()    // run by the committer between batches
	hkWake    chan struct{}  // to the housekeeper
	stop      chan struct{}  // closed by Close
	done      chan struct{}  // closed when the committer has returned
	finWake   chan struct{}  // to the finisher
	checkWake chan struct{}  // to the checker
	hk        sync.WaitGroup // the housekeeper, the finisher and the checker
	fold      fold           // of whoever finishes segments
	finMu     sync.Mutex     // held while a footer is written
	repairMu  sync.Mutex     // held while a segment is repaired
}

// Open opens the log in opts.Dir, creates it when there is none, and recovers it
// when it was not closed in good order. It holds the directory until Close: a
// second Open fails with an error that wraps logcore.ErrInUse. Corruption below
// the durable LSN is an error that wraps logcore.ErrCorrupt; nothing is cut then.
func Open(ctx context.Context, opts Options) (*Log, RecoveryReport, error) {
	return open(ctx, opts, openMode{})
}

// OpenImport opens a fresh log whose first segment begins as the header says, in a directory
// that is marked as an import under way: package importer's way in.
func OpenImport(ctx context.Context, opts Options, begin segment.Header) (*Log, error) {
	l, _, err := open(ctx, opts, openMode{importing: true, start: begin})
	return l, err
}

// open takes the directory, chooses its medium, and opens the log.
func open(ctx context.Context, opts Options, mode openMode) (*Log, RecoveryReport, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, RecoveryReport{}, err
	}
	lock, err := segdir.Lock(opts.Dir, true)
	if err != nil {
		return nil, RecoveryReport{}, err
	}
	dir, why, err := media.Open(opts.Dir, opts.Medium)
	if err != nil {
		lock.Unlock()
		return nil, RecoveryReport{}, fmt.Errorf("hotlog: %w", err)
	}
	opts.Logger.Info("hot log: medium chosen", "dir", opts.Dir, "medium", dir.Medium(), "because", why)
	set := segdir.NewFiles(dir, segdir.OpenFilesMax)
	l, report, err := openOn(ctx, set, opts, mode)
	if err != nil {
		return nil, report, errors.Join(err, set.Close(), lock.Unlock())
	}
	l.lock = lock
	return l, report, nil
}

// openMode is how a log begins.
type openMode struct {
	inline    bool           // see Log.inline
	importing bool           // a fresh log in a directory that is marked so
	start     segment.Header // first segment of a fresh log; zero = LSN 1
}

// openOn opens a log on a medium: recover, then start the goroutines.
func openOn(ctx context.Context, dir media.Dir, opts Options, mode openMode) (*Log, RecoveryReport, error) {
	openFiles := segdir.OpenFilesMax
	if mode.inline {
		openFiles = 1 // so that crash tests open files again all the time
	}
	l := &Log{
		opts: opts, dir: segdir.NewFiles(dir, openFiles), log: opts.Logger, inline: mode.inline,
		writer: newWriter(dir.Align(), mode.inline),
		wake:   make(chan struct{}, 1), commands: make(chan func()),
		hkWake: make(chan struct{}, 1), finWake: make(chan struct{}, 1), checkWake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	l.begunAt = time.Now()
	l.cache.init(opts.CacheBytes, dir.Align())
	l.view.Store(&[]*segfile{})
	var err error
	if l.metrics, err = newMetrics(opts); err != nil {
		return nil, RecoveryReport{}, err
	}
	report, err := l.recover(ctx, mode)
	if err != nil {
		l.metrics.unregister()
		l.closeFiles()
		if errors.Is(err, logcore.ErrCorrupt) {
			opts.Corruptions.Inc()
		}
		return nil, report, err
	}
	l.metrics.durableLSN.Set(float64(l.Durable()))
	l.log.Info("hot log opened", "dir", dir.Path(), "medium", dir.Medium(), "shard", opts.Shard, "first", report.First, "last", report.Last,
		"proven", report.Proven, "clean", report.Clean, "torn", report.Torn, "segments", report.Segments, "took", report.Took)
	go l.commitLoop()
	if !l.inline {
		l.hk.Go(func() { l.whenever(l.hkWake, l.housekeep) })
		l.hk.Go(func() { l.whenever(l.finWake, l.finishInTurn) })
		l.hk.Go(func() { l.whenever(l.checkWake, l.checkSealed) })
		l.wakeHousekeeper()
	}
	return l, report, nil
}

// Close completes what was submitted, proves on the medium how far the log is
// durable, and releases the directory. A second call does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	<-l.done
	l.hk.Wait()
	l.finishSealed(true)
	l.metrics.unregister()
	l.repairMu.Lock() // a repair and readers under way finish first
	defer l.repairMu.Unlock()
	l.structMu.Lock()
	defer l.structMu.Unlock()
	err := l.closeFiles()
	if l.lock != nil {
		err = errors.Join(err, l.dir.Close(), l.lock.Unlock())
	}
	return err
}

// closeFiles closes every file of the log.
func (l *Log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range *l.view.Load() {
		errs = append(errs, s.f.Close())
	}
	for _, p := range l.pool {
		errs = append(errs, p.f.Close())
	}
	l.pool = nil
	l.view.Store(&[]*segfile{})
	return errors.Join(errs...)
}

// Err returns why the log does not write any more: an error that wraps
// logcore.ErrPoisoned or logcore.ErrClosed, nil while it does.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateErr()
}

// stateErr is Err with mu held.
func (l *Log) stateErr() error {
	if l.err == nil && l.closed {
		return fmt.Errorf("hotlog: %s: %w", l.dir.Path(), logcore.ErrClosed)
	}
	return l.err
}

// Last returns the LSN of the last entry submitted, First-1 when there is none.
func (l *Log) Last() logcore.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Tail returns where the next entry goes: its segment, and LSN and checksum of the last
// entry submitted.
func (l *Log) Tail() (at segment.ID, last logcore.LSN, sum uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at = l.tail.header.ID
	if l.tail.sealed {
		at.First = l.last + 1
	}
	return at, l.last, l.lastSum
}

// Durable returns the highest LSN that is on stable storage, First-1 when there is none.
func (l *Log) Durable() logcore.LSN { return logcore.LSN(l.durable.Load()) }
