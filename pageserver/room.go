package pageserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
)

// room keeps ingest from filling the disk to the last byte. Pebble can't go on when it has
// no room for its own bookkeeping, and reads with it; so entries wait while less than a
// reserve is free, and go on by themselves when there is room again. Reads never wait.
type room struct {
	dir     string
	reserve uint64

	mu   sync.Mutex
	at   time.Time // of the last look; guarded by mu
	full error     // guarded by mu
}

// roomEvery is how often the disk is looked at.
const roomEvery = 100 * time.Millisecond

// look returns why there is no room, nil when there is.
func (r *room) look() error {
	r.mu.Lock()
	defer r.mu.Unlock()
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
