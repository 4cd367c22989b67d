package pageserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

	mu    sync.Mutex
	at    time.Time // of the last look; guarded by mu
	full  error     // guarded by mu
	stuck error     // why the last flush failed; guarded by mu
}

// roomEvery is how often the disk is looked at.
const roomEvery = 100 * time.Millisecond

// look returns why there is no room, nil when there is.
func (r *room) look() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stuck != nil {
		return r.stuck
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
// whoever writes meanwhile may wait for that inside Pebble, where nothing can end the wait: so
// nothing is written.
func (r *room) flushed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.ENOSPC):
		r.stuck = fmt.Errorf("pageserver: %w: what is in memory can't be written to %s: ingest waits until there is room", logcore.ErrDiskFull, r.dir)
	case errors.As(err, &errno):
		r.stuck = fmt.Errorf("pageserver: what is in memory can't be written to %s, ingest waits until it can: %w", r.dir, err)
	default: // written, or nothing to write
		r.stuck = nil
	}
}

// isStuck returns why the last flush failed, nil when it did not.
func (r *room) isStuck() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stuck
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

// apply writes a batch, unless that could wait inside Pebble for room on the disk. It is durable
// after the next flush. The caller holds storeMu.
func (s *Server) apply(b *pebble.Batch) error {
	if err := s.room.isStuck(); err != nil {
		return err
	}
	return s.db.Apply(b, pebble.NoSync)
}

// set writes one key, as apply does.
func (s *Server) set(key, value []byte) error {
	if err := s.room.isStuck(); err != nil {
		return err
	}
	return s.db.Set(key, value, pebble.NoSync)
}

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
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if err := s.room.isStuck(); err != nil {
				return err
			}
		}
	}
}
