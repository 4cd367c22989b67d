package logsvc

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// tail hands the newest entries of a shard to all who follow its logs. One goroutine reads
// and decodes each entry once and gives it to the followers of its log; if each follower
// read by itself, a thousand of them would decode every entry a thousand times. It runs while somebody
// follows.
type tail struct {
	s *Service

	// through: every entry up to here has been given to whoever followed its log then. It
	// is written under mu.
	through atomic.Uint64

	mu        sync.Mutex
	followers map[logcore.LogID]map[*follower]struct{} // guarded by mu
	count     int                                      // of followers; guarded by mu
	running   bool                                     // guarded by mu
}

func newTail(s *Service) *tail {
	return &tail{s: s, followers: map[logcore.LogID]map[*follower]struct{}{}}
}

// A follower that falls behind by more is left to read by itself until it has caught up.
const (
	followerEntriesMax = 4096
	followerBytesMax   = 4 << 20
)

// follower is one reader at the tail.
type follower struct {
	tail *tail
	log  logcore.LogID
	// from is the first LSN that it gets from the tail; what is before it reads itself.
	from  logcore.LSN
	ready chan struct{} // look at the rest

	mu      sync.Mutex
	entries []*logcorev1.LogEntry // shared with other followers: read-only; guarded by mu
	bytes   int                   // guarded by mu
	// until, when not 0, is the first LSN that it does not get: it fell behind. Guarded by mu.
	until logcore.LSN
	err   error // why the tail ended; guarded by mu
}

// join begins to follow a log.
func (t *tail) join(log logcore.LogID) *follower {
	f := &follower{tail: t, log: log, ready: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		t.running = true
		t.through.Store(uint64(t.s.group.Committed()))
		t.s.running.Go(t.run)
	}
	if t.followers[log] == nil {
		t.followers[log] = map[*follower]struct{}{}
	}
	t.followers[log][f] = struct{}{}
	t.count++
	f.from = logcore.LSN(t.through.Load()) + 1
	return f
}

// leave ends following. It may be called again.
func (f *follower) leave() {
	t := f.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(f)
}

func (t *tail) dropLocked(f *follower) {
	if _, ok := t.followers[f.log][f]; !ok {
		return
	}
	delete(t.followers[f.log], f)
	t.count--
	if len(t.followers[f.log]) == 0 {
		delete(t.followers, f.log)
	}
}

// take returns what there is for the follower, and the LSN up to which that is all. behind
// means that it gets no more: it fell behind, or the tail ended with an error.
func (f *follower) take() (entries []*logcorev1.LogEntry, through logcore.LSN, behind bool, err error) {
	through = logcore.LSN(f.tail.through.Load()) // first: what came up to there is in the list then
	f.mu.Lock()
	defer f.mu.Unlock()
	entries, f.entries, f.bytes = f.entries, nil, 0
	if n := len(entries); n > 0 {
		through = max(through, logcore.LSN(entries[n-1].Lsn))
	}
	if f.until != 0 {
		through, behind = f.until-1, true
	}
	return entries, through, behind, f.err
}

// give adds an entry; false when the follower is too far behind to take it.
func (f *follower) give(e *logcorev1.LogEntry) bool {
	f.mu.Lock()
	ok := f.until == 0
	if ok && (len(f.entries) >= followerEntriesMax || len(f.entries) > 0 && f.bytes+len(e.Payload) > followerBytesMax) {
		f.until, ok = logcore.LSN(e.Lsn), false
	}
	if ok {
		f.entries = append(f.entries, e)
		f.bytes += len(e.Payload)
	}
	f.mu.Unlock()
	signal(f.ready)
	return ok
}

// end tells the follower that the tail gives nothing from lsn on.
func (f *follower) end(lsn logcore.LSN, err error) {
	f.mu.Lock()
	if f.until == 0 {
		f.until, f.err = lsn, err
	}
	f.mu.Unlock()
	signal(f.ready)
}

// run reads what is committed and gives it away, until nobody follows or the service
// stops.
func (t *tail) run() {
	next := logcore.LSN(t.through.Load()) + 1
	for {
		changed := t.s.group.Changed()
		for end := t.s.group.Committed(); next <= end; end = t.s.group.Committed() {
			n, err := t.batch(next, end)
			if err != nil {
				t.endAll(next, err)
				return
			}
			next += logcore.LSN(n)
		}
		if t.idle() {
			return
		}
		select {
		case <-changed:
		case <-t.s.stopped.Done():
			t.endAll(next, fmt.Errorf("logsvc: %w", logcore.ErrClosed))
			return
		}
		if err := t.s.group.Err(); err != nil && next > t.s.group.Committed() {
			t.endAll(next, err)
			return
		}
	}
}

// idle ends the tail when nobody follows.
func (t *tail) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.count > 0
	return !t.running
}

// endAll ends every follower, and the tail.
func (t *tail) endAll(next logcore.LSN, err error) {
	if errors.Is(err, logcore.ErrTrimmed) {
		err = nil // only behind: the archive has it
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = false
	for _, list := range t.followers {
		for f := range list {
			f.end(next, err)
		}
	}
	clear(t.followers)
	t.count = 0
}

// batch gives away the entries from next on, at most up to end, and returns how many LSNs
// that were.
func (t *tail) batch(next, end logcore.LSN) (int, error) {
	entries, err := t.s.group.HotLog().Entries(next, end+1, readChunkBytes)
	if err != nil {
		return 0, err
	}
	t.s.metrics.decoded.Add(float64(len(entries)))
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		if !e.Kind.OfLog() {
			continue
		}
		rec, err := catalog.DecodeRecord(e.Payload)
		if err != nil {
			return 0, fmt.Errorf("LSN %d: %w", e.LSN, err)
		}
		list := t.followers[rec.Log]
		if len(list) == 0 {
			continue
		}
		shown := logEntry(e, rec)
		for f := range list {
			if !f.give(shown) {
				t.dropLocked(f)
			}
		}
	}
	// Under mu: who joins gets either all of a batch or what is behind it.
	t.through.Store(uint64(next) + uint64(len(entries)) - 1)
	return len(entries), nil
}

// logEntry is an entry as a reader sees it. It points into the entry.
func logEntry(e *logcore.Entry, rec catalog.Record) *logcorev1.LogEntry {
	tx := e.Tx
	return &logcorev1.LogEntry{Lsn: uint64(e.LSN), Time: uint64(e.Time), Kind: logcorev1.EntryKind(e.Kind),
		TransactionId: tx[:], Payload: rec.Body, PayloadCrc32C: crc32.Checksum(rec.Body, castagnoli),
		EnginePosition: rec.Position, Epoch: uint64(rec.Epoch), Sequence: rec.Sequence}
}
