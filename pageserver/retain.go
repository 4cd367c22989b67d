package pageserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
)

// retained is what is known of a log's history in this process.
type retained struct {
	mu   sync.Mutex
	pass pastPass // guarded by mu
}

// pastPass is what the last passes over a log found.
type pastPass struct {
	forgotten int // times that the log's state was thrown away
	use       Use

	counted   uint64 // bytes ingested when use was counted
	collected points // of the last pass that removed
	removedAt uint64 // bytes ingested up to its horizon
	at        time.Time
	passed    bool // there was such a pass
}

// forget begins afresh: the log's state was thrown away.
func (r *retained) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass = pastPass{forgotten: r.pass.forgotten + 1}
}

func (r *retained) past() pastPass {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pass
}

// note takes over what a pass found, unless the log's state was thrown away meanwhile.
func (r *retained) note(p pastPass) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.forgotten == r.pass.forgotten {
		r.pass = p
	}
}

func (r *retained) last() Use { return r.past().use }

// retentionLoop keeps the histories: it moves the horizons by the logs' windows, makes known
// what can be read, and collects what can't.
func (s *Server) retentionLoop(ctx context.Context) {
	tick := time.NewTicker(s.opts.CollectInterval)
	defer tick.Stop()
	for {
		if err := s.retain(ctx); err != nil && ctx.Err() == nil {
			s.metrics.collectErrors.Inc()
			s.log.Warn("pageserver: histories were not looked after; tried again", "err", s.noteStoreError(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// retain looks after the histories once.
func (s *Server) retain(ctx context.Context) error {
	if s.opts.Keeper == nil {
		return s.collectDue(ctx)
	}
	h, err := s.histories(ctx)
	if err != nil {
		return err
	}
	moved, err := s.advanceHorizons(ctx, h)
	if err != nil {
		return err
	}
	if moved {
		if h, err = s.histories(ctx); err != nil {
			return err
		}
	}
	s.makeKnown(h)
	return s.collectDue(ctx)
}

func (s *Server) histories(ctx context.Context) (Histories, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	return s.opts.Keeper.Histories(ctx)
}

// makeKnown lets readers know what can be read of the logs. It comes before anything is
// removed; a reader that began before looks again when it is done.
func (s *Server) makeKnown(h Histories) {
	all := h.points()
	for _, one := range h.Logs {
		// Another incarnation's horizon says nothing about what is here: refresh sees to it.
		if l := s.registry.withID(one.ID); l != nil && l.info().Incarnation == one.Incarnation {
			p := all[one.ID]
			if was := l.readable.Load(); was != nil {
				p = p.narrowed(*was)
			}
			l.readable.Store(&p)
		}
	}
}

// advanceHorizons asks for the horizons that the logs' windows allow, and reports whether one
// moved.
func (s *Server) advanceHorizons(ctx context.Context, h Histories) (moved bool, err error) {
	for _, one := range h.Logs {
		l := s.registry.withID(one.ID)
		if l == nil || one.Window == 0 && one.WindowBytes == 0 || l.info().Incarnation != one.Incarnation {
			continue
		}
		to, err := s.windowBegins(l, one, h.Now)
		if err != nil {
			return moved, err
		}
		if to <= one.Horizon {
			continue
		}
		now, err := s.advanceHorizon(ctx, l, to)
		switch {
		case errors.Is(err, logcore.ErrLogNotFound), errors.Is(err, logcore.ErrFenced):
			continue // gone, or another history: refresh sees to it
		case err != nil:
			return moved, err
		}
		moved = moved || now > one.Horizon
	}
	return moved, nil
}

func (s *Server) advanceHorizon(ctx context.Context, l *logState, to logcore.LSN) (logcore.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	return s.opts.Keeper.AdvanceHorizon(ctx, l.info(), to)
}

// windowBegins returns the LSN from which on a log's window is, 0 when it holds all of
// the log. Both a window in time and one in bytes keep what is in them.
func (s *Server) windowBegins(l *logState, h History, now logcore.HLC) (logcore.LSN, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return 0, logcore.ErrClosed
	}
	begins := l.snapshot().ingested
	if h.Window > 0 {
		age := logcore.HLC(h.Window.Milliseconds()) << 16
		if age >= now {
			return 0, nil
		}
		r := s.newReader()
		defer r.close()
		at, err := r.ownCommitBy(l, now-age)
		if err != nil {
			return 0, err
		}
		begins = min(begins, at)
	}
	if h.WindowBytes > 0 {
		total := l.bytes.Load()
		if total <= h.WindowBytes {
			return 0, nil
		}
		at, err := milestoneBefore(s.db, l.id, total-h.WindowBytes)
		if err != nil {
			return 0, err
		}
		begins = min(begins, at)
	}
	return begins, nil
}

// ownCommitBy returns a log's own last commit at or before a time, 0 when it has none.
func (r *reader) ownCommitBy(l *logState, t logcore.HLC) (logcore.LSN, error) {
	low, high := logcore.LSN(0), l.snapshot().visible
	// Invariant: the answer is at or above low, or there is none above it; it is not above high.
	var best logcore.LSN
	for low < high {
		middle := low + (high-low+1)/2
		at, when, found, err := r.commitAt(l, middle)
		switch {
		case err != nil:
			return 0, err
		case !found:
			low = middle
		case when <= t:
			best, low = at, middle
		default:
			high = at - 1
		}
	}
	return best, nil
}

// collectDue makes a pass over each log for which that is worth it.
func (s *Server) collectDue(ctx context.Context) error {
	logs := s.registry.all()
	forks := forksOf(logs)
	for _, l := range logs {
		if err := s.collectOne(ctx, l, forks[l]); err != nil && !errors.Is(err, errOtherState) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// forksOf returns where branches fork off each of some logs. A branch that was deleted is no pin of its parent any
// more, but as long as it is known here somebody may read it, and what it shows must be right.
func forksOf(logs []*logState) map[*logState][]logcore.LSN {
	forks := map[*logState][]logcore.LSN{}
	for _, l := range logs {
		if l.parent != nil {
			owner, _ := l.parent.ownerOf(l.branch.lsn)
			forks[owner] = append(forks[owner], l.branch.lsn)
		}
	}
	return forks
}

// dueBytesMin is the least that makes a pass worth it: 1 MiB with the write buffer's default.
func (o Options) dueBytesMin() uint64 { return uint64(o.MemTableBytes >> 5) }

// When a pass is worth its reading: when so large a part of what the log has may go, or
// came; small changes wait for so many intervals.
const (
	dueShare     = 4
	duePinsAfter = 20
	dueAnyAfter  = 60
)

// due says whether a pass over a log is worth it, and whether it can remove anything.
func (s *Server) due(l *logState, r pastPass, pts points) (due, removing bool, gone uint64, err error) {
	share := max(s.opts.dueBytesMin(), r.use.VersionBytes/dueShare)
	due = l.bytes.Load() >= r.counted+share
	if pts.horizon == 0 || r.passed && r.collected.equal(pts) {
		return due, false, 0, nil
	}
	if gone, err = bytesThrough(s.db, l.id, pts.horizon); err != nil {
		return false, false, 0, err
	}
	wait := time.Duration(dueAnyAfter)
	if r.passed && lessPinned(r.collected, pts) {
		wait = duePinsAfter
	}
	ripe := !r.passed || gone >= r.removedAt+share || time.Since(r.at) >= wait*s.opts.CollectInterval
	return due || ripe, ripe, gone, nil
}

// lessPinned reports whether something was pinned that no longer is.
func lessPinned(before, now points) bool {
	for _, at := range before.pins {
		if _, still := slices.BinarySearch(now.pins, at); !still && at < now.horizon {
			return true
		}
	}
	return false
}

// collectOne counts what the store has of a log and removes what can't be read, when it
// is worth it. forks are where the branches that are known here fork off.
func (s *Server) collectOne(ctx context.Context, l *logState, forks []logcore.LSN) error {
	var pts points
	if p := l.readable.Load(); p != nil {
		pts = *p
	}
	// What is not ingested yet decides what is the newest at a horizon above it.
	pts.horizon = min(pts.horizon, l.snapshot().ingested)
	pts.pins = slices.DeleteFunc(slices.Concat(pts.pins, forks), func(at logcore.LSN) bool { return at >= pts.horizon })
	slices.Sort(pts.pins)
	pts.pins = slices.Compact(pts.pins)
	r := l.retained.past()
	due, removing, gone, err := s.due(l, r, pts)
	if err != nil || !due {
		return err
	}
	if removing {
		if err := s.rememberPoints(l); err != nil {
			return err
		}
	}
	bytes, began := l.bytes.Load(), time.Now()
	use, err := s.collect(ctx, l, pts, removing, s.opts.CollectBytesPerSecond)
	s.metrics.collectedKeys.Add(float64(use.Collected))
	s.metrics.collectedBytes.Add(float64(use.CollectedBytes))
	s.recacher.all()
	if err != nil {
		return err
	}
	r.use, r.counted = use, bytes
	if removing {
		r.collected, r.removedAt, r.at, r.passed = pts, gone, began, true
	}
	l.retained.note(r)
	if use.CollectedBytes >= max(s.opts.dueBytesMin(), use.VersionBytes/dueShare) {
		return s.giveBack(ctx, l)
	}
	return nil
}

// rememberPoints makes what can be read of a log known to the next process, before anything
// is removed: the store keeps the order of what is written to it.
func (s *Server) rememberPoints(l *logState) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	key := appendLogKey(nil, tagHistory, l.id)
	return s.set(key, seal(key, encodePoints(*l.readable.Load())))
}

// setPoints takes what a store that was opened says can be read of each log, where nothing
// better is known.
func (s *Server) setPoints(known map[logcore.LogID]points) {
	for _, l := range s.registry.all() {
		if p, ok := known[l.id]; ok {
			l.readable.CompareAndSwap(nil, &p)
		}
	}
}

// storedPoints returns what a store says can be read of its logs; of one that is left out, everything.
// A store where that can't be read is damaged: it would show pages of which versions are gone.
func storedPoints(db *pebble.DB, states map[logcore.LogID]stateValue) (map[logcore.LogID]points, error) {
	known := map[logcore.LogID]points{}
	for id := range states {
		key := appendLogKey(nil, tagHistory, id)
		sealed, closer, err := db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		known[id], err = decodePoints(key, sealed)
		if err := errors.Join(err, closer.Close()); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// giveBack has Pebble write the log's tables again without what was removed, so that the
// disk gets its space back.
func (s *Server) giveBack(ctx context.Context, l *logState) error {
	defer s.intake.ignored()() // Pebble picks its own compactions first: ours would wait with them
	for _, tag := range []byte{tagVersion, tagSize, tagCut, tagObject, tagDecoder, tagCommit} {
		lower := appendLogKey(nil, tag, l.id)
		if err := s.db.Compact(ctx, lower, prefixEnd(lower), false); err != nil {
			return err
		}
	}
	return nil
}

// checkReadable says whether a log can be read at an LSN: an error that wraps
// logcore.ErrTrimmed when that is below its horizon and nothing keeps it.
func (l *logState) checkReadable(at logcore.LSN) error {
	owner, _ := l.ownerOf(at)
	p := owner.readable.Load()
	if p == nil || p.readable(at) {
		return nil
	}
	return fmt.Errorf("pageserver: log %q: %w: pages are kept from LSN %d on, LSN %d is below: read at a later one", l.name(), logcore.ErrTrimmed, p.horizon, at)
}

// bytesThrough returns the bytes of a log's own entries up to about an LSN, at the newest milestone
// for the highest one; 0 when there is none.
func bytesThrough(db *pebble.DB, log logcore.LogID, lsn logcore.LSN) (uint64, error) {
	lower := appendLogKey(nil, tagMilestone, log)
	upper := prefixEnd(lower)
	if lsn != ^logcore.LSN(0) {
		upper = appendMilestoneKey(nil, log, lsn+1)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.Last() {
		return 0, it.Error()
	}
	sealed, err := it.ValueAndErr()
	if err != nil {
		return 0, err
	}
	return decodeMilestone(it.Key(), sealed)
}
