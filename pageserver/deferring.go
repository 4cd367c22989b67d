package pageserver

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// deferring lets compactions of the store wait while entries come in: on a machine that also runs what writes them a
// compaction takes the processor from commits, and one of three times as much in level 0 rewrites the levels below once instead of three times. What waits
// is bounded: by deferSublevels and deferFill while much is written, by deferMax while little is. A store that takes nothing in is compacted at once, for
// its readers.
//
// It is a scheduler of Pebble's: as many compactions are under way as Pebble wants for what waits, else.
type deferring struct {
	intake *intake
	db     pebble.DBForCompaction
	look   chan struct{} // something may be granted
	stop   chan struct{}
	ended  sync.WaitGroup
	since  time.Time // when a compaction began to wait, zero: none does; the granting goroutine's

	mu      sync.Mutex // behind the store's locks
	running int        // compactions; guarded by mu
	begun   bool       // the store is open; guarded by mu
	over    bool       // nothing is granted any more; guarded by mu
}

// intake knows whether entries come in.
type intake struct {
	last    atomic.Int64 // when entries were taken in last, Unix nanoseconds
	waiters atomic.Int32 // who wait for a compaction
}

// taken notes that entries are taken in.
func (i *intake) taken() { i.last.Store(time.Now().UnixNano()) }

// busy reports whether entries come in, and nobody waits for a compaction.
func (i *intake) busy() bool {
	return time.Since(time.Unix(0, i.last.Load())) < deferQuiet && i.waiters.Load() == 0
}

// ignored has no compaction wait until the function that it returns is called.
func (i *intake) ignored() (end func()) {
	i.waiters.Add(1)
	return func() { i.waiters.Add(-1) }
}

const (
	// deferQuiet without an entry, and compactions wait no more.
	deferQuiet = 250 * time.Millisecond
	deferLook  = 100 * time.Millisecond
	// deferSublevels in level 0 don't wait; a read looks into each. Pebble by itself compacts from L0CompactionThreshold / 2 on.
	deferSublevels = 6
	// deferFill: nor does a level below that is so many times as full as it should be.
	deferFill = 3
	// deferMax: nor does any for longer.
	deferMax = time.Minute
)

// newDeferring returns a scheduler for one opening of a store. It grants nothing before begin is called: an opening that
// fails late, of a full disk say, would leave a compaction behind that goes on in a store whose caches are closed.
func newDeferring(i *intake) *deferring {
	return &deferring{intake: i, look: make(chan struct{}, 1), stop: make(chan struct{})}
}

// Register implements pebble.CompactionScheduler.
func (d *deferring) Register(_ int, db pebble.DBForCompaction) { d.db = db }

// begin is called when the store is open.
func (d *deferring) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun = true
	d.ended.Go(d.run)
}

// Unregister implements pebble.CompactionScheduler.
func (d *deferring) Unregister() {
	d.mu.Lock()
	d.over = true
	d.mu.Unlock()
	close(d.stop)
	d.ended.Wait()
}

// TrySchedule implements pebble.CompactionScheduler. It is called under the store's locks, which keeps it from looking into level 0: what is
// refused waits for the granting goroutine.
func (d *deferring) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if d.intake.busy() {
		return false, nil
	}
	return d.reserve(), d
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (d *deferring) UpdateGetAllowedWithoutPermission() { d.poke() }

// Done implements pebble.CompactionGrantHandle: a compaction has ended.
func (d *deferring) Done() {
	d.release()
	d.poke()
}

// Started, MeasureCPU and CumulativeStats implement pebble.CompactionGrantHandle.
func (d *deferring) Started()                                          {}
func (d *deferring) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (d *deferring) CumulativeStats(pebble.CompactionGrantHandleStats) {}

func (d *deferring) poke() {
	select {
	case d.look <- struct{}{}:
	default: // it will look
	}
}

// reserve counts one compaction more, if that many may run.
func (d *deferring) reserve() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.begun || d.over || d.running >= d.db.GetAllowedWithoutPermission() {
		return false
	}
	d.running++
	return true
}

func (d *deferring) release() {
	d.mu.Lock()
	d.running--
	d.mu.Unlock()
}

// run grants what waits, when something has changed and every deferLook: entries cease to come in without a word.
func (d *deferring) run() {
	tick := time.NewTicker(deferLook)
	defer tick.Stop()
	for {
		for d.grant() {
		}
		select {
		case <-d.look:
		case <-tick.C:
		case <-d.stop:
			return
		}
	}
}

// grant has a compaction begin that waits, if it needn't wait any more, and reports whether it did.
func (d *deferring) grant() bool {
	if !d.reserve() {
		return false
	}
	waits, _ := d.db.GetWaitingCompaction()
	if !waits {
		d.since = time.Time{}
	}
	if !waits || d.defers() || !d.db.Schedule(d) {
		d.release()
		return false
	}
	d.since = time.Time{}
	return true
}

// defers reports whether a compaction goes on waiting.
func (d *deferring) defers() bool {
	if !d.intake.busy() || d.presses() {
		return false
	}
	if d.since.IsZero() {
		d.since = time.Now()
	}
	return time.Since(d.since) < deferMax
}

// presses reports whether more waits than may.
func (d *deferring) presses() bool {
	db, ok := d.db.(*pebble.DB)
	if !ok {
		return true
	}
	m := db.Metrics()
	if m.Levels[0].Sublevels >= deferSublevels {
		return true
	}
	for _, l := range m.Levels[1 : len(m.Levels)-1] { // the last has room for all
		if l.FillFactor >= deferFill {
			return true
		}
	}
	return false
}
