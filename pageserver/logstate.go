package pageserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// generations numbers the states that logs have had in this process, so that a
// cached page of a state that was thrown away is never found again.
var generations atomic.Uint64

// logState is one log in this process.
type logState struct {
	id     logcore.LogID
	parent *logState // nil unless a branch; never changes
	// branch is the parent's last pos that this branch sees.
	branch pos
	// generation changes when the state is thrown away; written with Server.storeMu
	// held for writing and mu, so either is enough to read it.
	generation uint64

	// writing is the LSN of the newest entry that the follower has begun to write; see
	// currentPages. Written by the follower.
	writing atomic.Uint64

	bytes atomic.Uint64 // of the payloads of its own entries, as far as they are ingested
	// readable is what can be read of the log itself, its ancestors left aside; nil:
	// everything. Written by whoever keeps histories, before anything is removed.
	readable atomic.Pointer[points]
	retained retained // owned by the retention loop, but for use
	resting  resting
	waiters  atomic.Int64 // readers who wait for more of it
	// archiveAfter is when the archive may be read again; the follower's.
	archiveAfter time.Time
	dead         atomic.Bool // thrown away: it is not followed any more

	mu sync.Mutex
	// state is what the next batch writes; its ingested LSN is what readers see.
	state stateValue // guarded by mu
	saved logcore.LSN
	// confirmed: the source said since the last time its stream broke that the state's
	// incarnation is the current one, and its last entry one of the source's.
	confirmed bool // guarded by mu
	// session numbers the stream that confirmed says of.
	session uint64 // guarded by mu
	// foreign: the source's history is not the one that the state was made from, though
	// the incarnation is. Run throws the state away.
	foreign bool // guarded by mu
	// caughtUp is the LSN the source had when it last confirmed: a reader of the newest
	// state waits for it, so that a page server that is being filled shows no ancient one.
	caughtUp logcore.LSN   // guarded by mu
	catching bool          // the archive is being read: no stream stands; guarded by mu
	end      end           // of the log, as the source says it; guarded by mu
	from     string        // where its entries come from; guarded by mu
	lastErr  error         // of the source, for who waits in vain; guarded by mu
	stopped  error         // ingest ended for good; guarded by mu
	closed   bool          // the page server was closed: nothing will change any more; guarded by mu
	changed  chan struct{} // closed when any of the above changes; guarded by mu
	// newestCut caches the pos of the newest cut of a space: a version that is newer
	// is alive. Filled from the store; guarded by mu.
	newestCut map[engine.Space]pos
	// cutEpochs counts the cuts of a space in this process; guarded by mu.
	cutEpochs map[engine.Space]uint64

	// again tells the follower, while it pauses, that the source answers.
	again chan struct{}

	// decoder decodes the log's payloads; nil until their format is known.
	decoder engine.Decoder // guarded by mu
}

func newLogState(id logcore.LogID, parent *logState, state stateValue) *logState {
	l := &logState{id: id, parent: parent, branch: endOf(state.branchLSN), changed: make(chan struct{}), again: make(chan struct{}, 1)}
	l.reset(state)
	l.saved = state.ingested
	return l
}

// reset replaces the whole state. The caller holds Server.storeMu for writing (or
// nobody else knows l yet), and no follower of l runs.
func (l *logState) reset(state stateValue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state.ingested = max(state.ingested, state.branchLSN)
	l.state, l.saved, l.confirmed, l.foreign, l.caughtUp, l.stopped = state, 0, false, false, 0, nil
	l.newestCut, l.cutEpochs = map[engine.Space]pos{}, map[engine.Space]uint64{}
	l.writing.Store(uint64(state.ingested))
	l.generation = generations.Add(1)
	l.bytes.Store(0)
	l.retained.forget()
	l.broadcast()
}

// currentID names a page of the log as it is after the cuts that the follower has
// begun to write.
func (l *logState) currentID(space engine.Space, page uint32) currentID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return currentID{l.id, l.generation, l.cutEpochs[space], space, page}
}

// ownerOf returns the one of a log and its ancestors whose own an LSN is, and the last LSN
// of it that the log sees, the highest when that is the log itself.
func (l *logState) ownerOf(at logcore.LSN) (owner *logState, last logcore.LSN) {
	owner, last = l, ^logcore.LSN(0)
	for owner.parent != nil && at <= owner.branch.lsn {
		owner, last = owner.parent, min(last, owner.branch.lsn)
	}
	return owner, last
}

// covers reports whether the log and its ancestors are ingested as far as a reader at
// an LSN can see.
func (l *logState) covers(lsn logcore.LSN) bool {
	for ; l != nil; l = l.parent {
		if l.snapshot().ingested < lsn {
			return false
		}
		lsn = min(lsn, l.branch.lsn)
	}
	return true
}

// broadcast wakes everyone who waits; the caller holds mu.
func (l *logState) broadcast() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logState) update(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.broadcast()
}

func (l *logState) name() string { return l.info().Name }

// forgetCuts forgets what is known of the newest cuts: readers ask the store.
func (l *logState) forgetCuts() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.newestCut)
}

// decoderOf returns the decoder of the log's payloads, nil while it is not known.
func (l *logState) decoderOf() engine.Decoder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.decoder
}

func (l *logState) setDecoder(d engine.Decoder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decoder = d
}

// info is what the state says about the log.
func (l *logState) info() LogInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LogInfo{ID: l.id, Name: l.state.name, Format: l.state.format, Incarnation: l.state.incarnation, Parent: l.state.parent, BranchLSN: l.state.branchLSN, Last: l.state.visible, Committed: l.state.ingested}
}

// snapshot returns the state as of now.
func (l *logState) snapshot() stateValue {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// commitState makes a state that was written to the store visible.
func (l *logState) commitState(v stateValue) {
	l.update(func() { l.state, l.saved = v, v.ingested })
}

// saveState writes the position when it moved without an entry.
func (l *logState) saveState(s *Server) error {
	l.mu.Lock()
	v, saved := l.state, l.saved
	l.mu.Unlock()
	if v.ingested == saved {
		return nil
	}
	key := appendLogKey(nil, tagState, l.id)
	if err := s.set(key, seal(key, encodeState(v))); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = max(l.saved, v.ingested)
	return nil
}

// want says what a reader needs: a definite LSN, or the newest there is.
type want struct {
	lsn    logcore.LSN
	newest bool
	// past: what lsn held is enough, so that a log which is read from the archive need not be
	// confirmed; wait returns errUnconfirmed once it is there.
	past bool
}

// wait returns once the log is ingested up to what is wanted, with the LSN that is
// ingested. It fails with an error that wraps *logcore.LagError at the deadline, with
// the reason at once when the log's ingest has stopped or the page server was closed, and
// when ctx is done.
func (l *logState) wait(ctx context.Context, w want, patience time.Duration) (logcore.LSN, error) {
	start := time.Now()
	var timer *time.Timer
	for {
		l.mu.Lock()
		ingested, target := l.state.ingested, w.lsn
		if w.newest {
			target = max(target, l.caughtUp)
		}
		ready := l.confirmed && ingested >= target
		rests := l.resting.rests
		there := w.past && ingested >= target && l.from == FromArchive
		stopped, lastErr, confirmed, changed, name, closed := l.stopped, l.lastErr, l.confirmed, l.changed, l.state.name, l.closed
		l.mu.Unlock()
		if ready {
			return ingested, nil
		}
		if closed {
			return 0, fmt.Errorf("pageserver: log %q: %w", name, logcore.ErrClosed)
		}
		if there {
			return 0, errUnconfirmed
		}
		if rests {
			return 0, errRests
		}
		if stopped != nil && confirmed {
			return 0, fmt.Errorf("pageserver: log %q is served up to LSN %d only, its ingest has %w: %w", name, ingested, errStopped, stopped)
		}
		if timer == nil {
			timer = time.NewTimer(patience)
			defer timer.Stop()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-timer.C:
			if w.newest {
				target = max(target, ingested+1) // there may be more, nobody knows
			}
			return 0, lagError(name, target, ingested, confirmed, lastErr, time.Since(start))
		}
	}
}

// errRests: waiting for more of a branch at rest leads nowhere; see Server.waitFor.
var errRests = errors.New("pageserver: the branch is at rest")

// errUnconfirmed: what is wanted is there, and the log service has not confirmed that it comes from it.
var errUnconfirmed = errors.New("pageserver: not confirmed")

// errStopped marks an error of the log itself, which ended its ingest.
var errStopped = errors.New("stopped")

func (l *logState) generationNow() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// generations returns those of a log and its ancestors.
func (l *logState) generations() []uint64 {
	var gens []uint64
	for ; l != nil; l = l.parent {
		l.mu.Lock()
		gens = append(gens, l.generation)
		l.mu.Unlock()
	}
	return gens
}

// awaitNewGeneration returns when the log's state was thrown away, or ctx is done.
func (l *logState) awaitNewGeneration(ctx context.Context, seen []uint64) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if !slices.Equal(seen, l.generations()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func lagError(name string, target, ingested logcore.LSN, confirmed bool, lastErr error, waited time.Duration) error {
	lag := &logcore.LagError{Asked: target, Available: min(ingested, target), Waited: waited}
	switch {
	case lastErr != nil:
		return fmt.Errorf("pageserver: log %q: %w (the log service: %v)", name, lag, lastErr)
	case !confirmed:
		return fmt.Errorf("pageserver: log %q: the log service has not confirmed yet that it is the one these pages came from: %w", name, lag)
	}
	return fmt.Errorf("pageserver: log %q: %w", name, lag)
}
