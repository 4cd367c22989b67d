package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
)

// Archiver moves the log of one shard from its Source to the targets. One archiver at
// a time may hold an epoch; a higher epoch fences a lower one.
//
// Four lanes run beside each other. The tail lane archives what is committed and not
// covered yet, within MaxAge. The care lane folds tails into sealed objects, lets the
// hot tier trim, places what degraded objects lack, brings targets that were away up to
// date and rolls the manifest up. The tidy lane deletes what was superseded.
// The scrub lane reads what is stored, within a budget, locks it, and compacts it.
type Archiver struct {
	o       Options
	log     *slog.Logger
	remotes atomic.Pointer[[]*remote] // all there are, former ones too; grows at the end alone, under mu
	memory  *budget
	metrics *metrics
	reader  atomic.Pointer[Reader]
	elect   atomic.Pointer[[][]string] // the sets of targets of each of which a majority counts
	id      [16]byte                   // chosen at random: makes the claim this archiver's own

	// state is the newest committed state of the manifest; nil until the archiver has
	// taken over. Written under commitSlot.
	state atomic.Pointer[state]

	background background // calls to slow targets that nobody waits for any more but Run

	// chainView is the chain as of the newest state, for who must not wait for commitSlot.
	chainView atomic.Pointer[[]stored]

	commitSlot chan struct{} // capacity 1; holding it is the right to write records
	chain      []stored      // guarded by commitSlot: from the newest rollup to the newest record
	pending    *stored       // guarded by commitSlot: written to some targets, its outcome still open

	// openObjects are those that the pending record names; nil = none. What made them may have
	// given up waiting: the record counts all the same once it is finished.
	openObjects atomic.Pointer[map[objectName]bool]

	mu        sync.Mutex
	covered   chan struct{}            // guarded by mu: closed and replaced whenever Covered rises
	flushTo   logcore.LSN              // guarded by mu: the highest LSN a Flush waits for
	oldest    time.Time                // guarded by mu: no entry that is not covered is older; zero = none
	rpo       [rpoWindow]rpoSample     // guarded by mu: ring of the last rounds
	work      time.Duration            // guarded by mu: how long rounds of the tail lane take, slowly forgetting
	rpoNext   int                      // guarded by mu
	lastErr   error                    // guarded by mu: of the last round of either lane
	trimmed   logcore.LSN              // guarded by mu: what the source was last told
	inFlight  map[objectName]bool      // guarded by mu: placed or being placed, not yet in the manifest
	retiredAt map[objectName]time.Time // guarded by mu: since when a name is known to be superseded
	gone      map[objectName]targetSet // guarded by mu: the targets that retired objects were deleted from
	places    map[objectName][]string  // guarded by mu: where the fragments of retired objects are, by index, when known
	oldRecord map[string]oldRecord     // guarded by mu: records before the base, by key
	unswept   map[string]bool          // guarded by mu: targets to be audited and searched for orphans
	missing   map[objectName]targetSet // guarded by mu: fragments that are not where the manifest places them

	sweptAt  map[string]time.Time     // guarded by mu: by target
	verified map[logcore.LSN]verified // owned by the care lane: by the segment's first LSN
	recheck  time.Duration            // how long that holds

	flush  chan struct{}   // wakes the tail lane; capacity 1
	wake   chan struct{}   // wakes the care lane; capacity 1
	tidy   chan struct{}   // wakes the tidy lane; capacity 1
	rotten chan rottenSeen // fragments a reader found damaged; full = dropped, the next reader finds them again

	started    time.Time
	scrubs     *scrubState
	spotEvery  time.Duration            // how often targets are asked for one fragment
	locked     map[objectName]time.Time // guarded by mu: until when fragments are locked
	lockable   map[string]bool          // owned by the scrub lane: by target, whether it locks objects
	scrubWake  chan struct{}            // wakes the scrub lane; capacity 1
	compacting chan struct{}            // capacity 1: one compaction at a time

	orphan func(n objectName, index int, target string) bool // isOrphan, but in tests

	rollupMin int // records after which a small archive is rolled up
	fanIn     int // tails that are folded into one

	// hook runs before each step that has an effect; an error from it stops the archiver
	// as a crash would. nil but in tests.
	hook func(step string) error
}

// targetSet is a set of indexes into the targets.
type targetSet uint64

// oldRecord is a record that a rollup made superfluous.
type oldRecord struct {
	since time.Time
	gone  targetSet // the targets it was deleted from
}

// rottenSeen names a fragment that a reader found damaged or missing.
type rottenSeen struct {
	name  objectName
	index int
}

// Open makes an archiver and takes the archive over: it loads the manifest and proves
// it, checks that the hot tier continues it, claims the epoch on a majority of the targets
// and completes what an earlier archiver left unfinished. When too few targets answer for
// that, Open succeeds all the same, so that the hot tier can serve, and Run goes on
// trying; Covered is 0 until then. It fails with logcore.ErrFenced when a higher epoch or
// another incarnation holds the archive, and with ErrDiverged when the hot tier does not
// continue it: then nothing may be written to that hot tier either.
func Open(ctx context.Context, o Options) (*Archiver, error) {
	a, err := newArchiver(o)
	if err != nil {
		return nil, err
	}
	if err := a.takeOver(ctx); err != nil {
		if !awaitsTargets(err) || ctx.Err() != nil {
			return nil, err
		}
		a.failed("take over the archive", err)
	}
	return a, nil
}

func newArchiver(o Options) (*Archiver, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("tiering: open: %w", err)
	}
	a := &Archiver{o: o, id: newArchiverID(), log: o.Logger.With("component", "tiering", "shard", uint32(o.Shard)),
		memory:  newBudget(o.liveMax()),
		covered: make(chan struct{}), commitSlot: make(chan struct{}, 1), flush: make(chan struct{}, 1), wake: make(chan struct{}, 1), tidy: make(chan struct{}, 1), rotten: make(chan rottenSeen, 256),
		inFlight: map[objectName]bool{}, retiredAt: map[objectName]time.Time{}, gone: map[objectName]targetSet{}, places: map[objectName][]string{},
		oldRecord: map[string]oldRecord{}, unswept: map[string]bool{}, sweptAt: map[string]time.Time{}, missing: map[objectName]targetSet{}, verified: map[logcore.LSN]verified{}, recheck: recheckAfter,
		started: time.Now(), spotEvery: spotEvery, locked: map[objectName]time.Time{}, lockable: map[string]bool{}, scrubWake: make(chan struct{}, 1), compacting: make(chan struct{}, 1),
		rollupMin: rollupAfterMin, fanIn: tailFanIn}
	a.orphan = a.isOrphan
	a.setRemotes(newRemotes(o.Targets, o.OpTimeout))
	var err error
	if a.metrics, err = newMetrics(o.Registerer, a); err != nil {
		return nil, err
	}
	a.scrubs, err = newScrubState(o.Registerer, o.Shard)
	a.warnPlacement()
	return a, err
}

// awaitsTargets reports whether err is one that ends once more targets answer.
func awaitsTargets(err error) bool { return errors.Is(err, ErrNoQuorum) || errors.Is(err, ErrUnproven) }

// Run archives until ctx is done, and then returns nil. It returns an error only when
// the archiver can't go on: logcore.ErrFenced, ErrDiverged, or a source that fails. It
// must be called once.
func (a *Archiver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer a.background.end()
	defer cancel()
	err := a.retry(ctx, "take over the archive", func() error {
		if a.state.Load() != nil {
			return nil
		}
		return a.takeOver(ctx)
	})
	if err == nil {
		err = a.awaitSource(ctx)
	}
	if err == nil {
		err = a.runLanes(ctx)
	}
	if ctx.Err() != nil && !isFatal(err) {
		return nil
	}
	return err
}

// runLanes runs all lanes until one of them ends, stops the others, waits for them, and
// returns why: the fatal reason when there is one.
func (a *Archiver) runLanes(ctx context.Context) (why error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lanes := []func(context.Context) error{a.tailLane, a.careLane, a.tidyLane, a.scrubLane}
	errs := make(chan error, len(lanes))
	for _, lane := range lanes {
		go func() { errs <- lane(ctx) }()
	}
	for range lanes {
		err := <-errs
		cancel()
		if why == nil || isFatal(err) && !isFatal(why) {
			why = err
		}
	}
	return why
}

// awaitSource blocks until the source has committed what the archive covers: right
// after a start it may not know yet. It has it, the take-over saw to that.
func (a *Archiver) awaitSource(ctx context.Context) error {
	covered := a.Covered()
	if a.o.Source.Committed() < covered {
		a.failed("follow the log", fmt.Errorf("the archive covers %d, the log knows to have committed %d", covered, a.o.Source.Committed()))
		if err := a.o.Source.WaitCommitted(ctx, covered); err != nil {
			return err
		}
		a.failed("", nil)
	}
	return nil
}

// isFatal reports whether the archiver must stop.
func isFatal(err error) bool {
	return errors.Is(err, logcore.ErrFenced) || errors.Is(err, ErrDiverged) || errors.Is(err, errCrash) ||
		errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, ErrKeyNotFound) || errors.Is(err, ErrUnknownSigner) || errors.Is(err, errEnded) || errors.Is(err, logcore.ErrPoisoned)
}

// errCrash is what hooks stop the archiver with.
var errCrash = errors.New("tiering: stopped by a failpoint")

// step is called before everything that has an effect.
func (a *Archiver) step(name string) error {
	if a.hook == nil {
		return nil
	}
	return a.hook(name)
}

// Pauses between attempts at something the targets refuse.
const (
	retryPauseMin = 50 * time.Millisecond
	retryPauseMax = 5 * time.Second
)

// retry does op until it succeeds, fails for good, or ctx is done. The outcome of the
// last attempt shows in Status.
func (a *Archiver) retry(ctx context.Context, what string, op func() error) error {
	pause := retryPauseMin
	for {
		err := op()
		if err == nil {
			a.failed("", nil)
			return nil
		}
		if isFatal(err) || ctx.Err() != nil {
			return err
		}
		a.failed(what, err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseMax)
	}
}

// failed notes why a round failed, and logs it when it is news; nil = it did not.
func (a *Archiver) failed(what string, err error) {
	a.mu.Lock()
	news := err != nil && (a.lastErr == nil || a.lastErr.Error() != err.Error())
	a.lastErr = err
	a.mu.Unlock()
	if news {
		a.log.Warn("archiving is held up: trying again", "step", what, "error", err)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Covered returns the LSN up to which everything is archived: the manifest that says so
// is on a majority of the targets. 0 = nothing, or not known yet.
func (a *Archiver) Covered() logcore.LSN {
	if s := a.state.Load(); s != nil {
		return s.covered()
	}
	return 0
}

// Reader returns a reader of what this archiver has archived so far; it follows along
// and need not be refreshed.
func (a *Archiver) Reader() *Reader { return a.reader.Load() }

// Flush archives at once everything up to upTo and returns when Covered() >= upTo. The
// LSN must be committed or about to be.
func (a *Archiver) Flush(ctx context.Context, upTo logcore.LSN) error {
	a.mu.Lock()
	a.flushTo = max(a.flushTo, upTo)
	a.mu.Unlock()
	poke(a.flush)
	for {
		a.mu.Lock()
		rises := a.covered
		a.mu.Unlock()
		if a.Covered() >= upTo {
			return nil
		}
		select {
		case <-rises:
		case <-ctx.Done():
			a.mu.Lock()
			defer a.mu.Unlock()
			return fmt.Errorf("tiering: flush to %d: %w: the archive covers %d (last problem: %v)", upTo, ctx.Err(), a.Covered(), a.lastErr)
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}
