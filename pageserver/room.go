package pageserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
)

// room keeps ingest from filling the disk to the last byte. Pebble can't go on when it has
// no room for its own bookkeeping, and reads with it; so entries wait while less than a
// reserve is free, and go on by themselves when there is room again. Reads never wait.
type room struct {
	dir     string
	reserve uint64

	// hurry: the store is being opened, or whoever runs it wants to stop: a write to the manifest does
	// not wait for room for long.
	hurry atomic.Bool
	// abandoned: one waited for too long. What is written from then on does not reach the disk,
	// until the store is opened again; see diskFS.
	abandoned atomic.Bool

	unlooked atomic.Int64 // bytes written since the store was asked whether it is crowded
	crowded  atomic.Bool  // the answer

	mu      sync.Mutex
	at      time.Time // of the last look; guarded by mu
	full    error     // guarded by mu
	stuck   error     // why the last flush failed; guarded by mu
	apart   error     // why the last merging of tables failed; guarded by mu
	waiting int       // writes to the manifest that wait for room; guarded by mu
}

// roomEvery is how often the disk is looked at.
const roomEvery = 100 * time.Millisecond

// look returns why there is no room, nil when there is.
func (r *room) look() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.stuckLocked(); err != nil {
		return err
	}
	if r.crowded.Load() && r.apart != nil {
		return r.apart
	}
	if time.Since(r.at) < roomEvery {
		return r.full
	}
	r.at = time.Now()
	usage, err := vfs.Default.GetDiskUsage(r.dir)
	switch {
	case err != nil:
		r.full = nil // not known: what goes wrong shows when it is written
	case usage.AvailBytes < r.reserve:
		r.full = fmt.Errorf("pageserver: %w: %d bytes are free in %s, %d are kept for what is there: ingest waits until there is room", logcore.ErrDiskFull, usage.AvailBytes, r.dir, r.reserve)
	default:
		r.full = nil
	}
	return r.full
}

// flushed takes note of how a flush ended. Pebble tries a failed one again until it succeeds, and
// what is written meanwhile stays in memory: so nothing is written.
func (r *room) flushed(err error) (before, now error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, r.stuck = r.stuck, r.whyNot(err, "what is in memory can't be written")
	return before, r.stuck
}

// merged takes note of how a merging of tables ended. While it fails there are more of them with
// each flush.
func (r *room) merged(err error) (before, now error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, r.apart = r.apart, r.whyNot(err, "the tables can't be merged")
	return before, r.apart
}

// failing reports whether it is known that background work fails.
func (r *room) failing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stuck != nil || r.apart != nil
}

// whyNot returns what an error of Pebble's background work means for who ingests; nil when that
// did not fail, or for another reason than the disk.
func (r *room) whyNot(err error, what string) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("pageserver: %w: %s in %s: ingest waits until there is room", logcore.ErrDiskFull, what, r.dir)
	case errors.As(err, &errno):
		return fmt.Errorf("pageserver: %s in %s, ingest waits until they can: %w", what, r.dir, err)
	}
	return nil
}

// isStuck returns why nothing may be written, nil when something may.
func (r *room) isStuck() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stuckLocked()
}

func (r *room) stuckLocked() error {
	if r.abandoned.Load() || r.waiting > 0 {
		return fmt.Errorf("pageserver: %w: there is no room in %s for the store's own list of its tables", logcore.ErrDiskFull, r.dir)
	}
	return r.stuck
}

// manifestWaits counts the writes to the manifest that wait for room.
func (r *room) manifestWaits(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting += n
}

// begin forgets what was found out about a store: another one is opened.
func (r *room) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stuck, r.apart = nil, nil
	r.crowded.Store(false)
	r.abandoned.Store(false)
}

// await returns when there is room, or ctx is done. full is called with why there is
// none, each time that was found out again.
func (r *room) await(ctx context.Context, full func(error)) error {
	for {
		err := r.look()
		if err == nil {
			return nil
		}
		full(err)
		select {
		case <-time.After(roomEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// diskFull is 1 while there is no room.
func (s *Server) diskFull() float64 {
	if s.room.look() != nil {
		return 1
	}
	return 0
}

// What Pebble may have in memory and in its first level before whoever ingests waits. Pebble's own
// limits, above which a writer waits inside it where nothing can end the wait, are out of reach.
const (
	memTablesMax  = 4
	sublevelsMax  = 24 // reads pay for every one; ingest must not be stopped by a burst
	noPebbleLimit = 1 << 20
	// crowdedPause is between two questions whether there is less now.
	crowdedPause = 5 * time.Millisecond
)

// ingest writes a batch once Pebble is not behind with what it has. The caller holds storeMu, or
// knows that the store stays.
func (s *Server) ingest(ctx context.Context, b *pebble.Batch) error {
	if s.room.unlooked.Add(int64(b.Len())) > s.opts.MemTableBytes>>3 || s.room.crowded.Load() {
		s.room.unlooked.Store(0)
		for s.isCrowded() {
			if err := s.room.look(); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(crowdedPause):
			}
		}
	}
	return s.apply(b)
}

func (s *Server) isCrowded() bool {
	m := s.db.Metrics()
	crowded := m.MemTable.Size >= memTablesMax*uint64(s.opts.MemTableBytes) || m.Levels[0].Sublevels >= sublevelsMax
	s.room.crowded.Store(crowded)
	return crowded
}

// apply writes a batch that no reader waits for, provided that what is in memory gets to the disk. It
// is durable after the next flush. The caller holds storeMu.
func (s *Server) apply(b *pebble.Batch) error {
	if err := s.room.isStuck(); err != nil {
		return err
	}
	return s.db.Apply(b, pebble.NoSync)
}

// set writes one key, into memory at least: a log is followed, and what is there confirmed for
// readers, when the disk is full as well. The caller holds storeMu.
func (s *Server) set(key, value []byte) error { return s.db.Set(key, value, pebble.NoSync) }

// flushStore makes what is in memory durable. It returns without having done so when ctx is done
// or the disk has no room; Pebble goes on trying then. The caller holds storeMu.
func (s *Server) flushStore(ctx context.Context) error {
	if err := s.room.isStuck(); err != nil {
		return err
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return s.noteStoreError(err)
	}
	look := time.NewTicker(roomEvery)
	defer look.Stop()
	for {
		select {
		case <-flushed:
			return s.room.isStuck() // abandoned: Pebble only believes that it did
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if err := s.room.isStuck(); err != nil {
				return err
			}
		}
	}
}
