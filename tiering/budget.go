package tiering

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// budget accounts for the bytes in buffers. Who makes an object reserves, before it reads
// anything, all that it may come to hold, and gives back what it turns out not to need. So
// nobody waits for memory while holding some, and the sum stays within the limit.
type budget struct {
	limit int64
	sem   *semaphore.Weighted

	mu        sync.Mutex
	held      int64 // guarded by mu: bytes in buffers now
	peak      int64 // guarded by mu: the most there ever were
	overdrawn int64 // guarded by mu: the most that anybody held beyond its reservation; above 0 is a bug
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, sem: semaphore.NewWeighted(limit)}
}

// share is a reservation, of one goroutine at a time.
type share struct {
	b        *budget
	reserved int64
	held     int64
}

// reserve waits for room for n bytes, or for the whole limit when n is more.
func (b *budget) reserve(ctx context.Context, n int64) (*share, error) {
	n = min(n, b.limit)
	if err := b.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return &share{b: b, reserved: n}, nil
}

// holds notes how many bytes are in the holder's buffers from now on.
func (s *share) holds(n int64) {
	if s == nil {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.held += n - s.held
	s.held = n
	s.b.peak = max(s.b.peak, s.b.held)
	s.b.overdrawn = max(s.b.overdrawn, n-s.reserved)
}

// keep gives back what is reserved beyond n bytes.
func (s *share) keep(n int64) {
	if s == nil || n >= s.reserved {
		return
	}
	s.b.sem.Release(s.reserved - n)
	s.reserved = n
}

// release gives everything back; nothing is held any more.
func (s *share) release() {
	s.holds(0)
	s.keep(0)
}

// now returns the bytes in buffers, and the most there ever were.
func (b *budget) now() (held, peak int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.peak
}
