package logsvc

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// budget bounds the memory of the entries that all clients together have under way: from
// before they are laid out until they are durable or refused. Who finds it used up waits,
// in the order of arrival; an append stream that waits does not receive, so HTTP/2 flow control stops its
// client.
type budget struct {
	max int64
	sem *semaphore.Weighted

	waiting atomic.Int64 // messages that wait
	staged  atomic.Int64 // bytes laid out and not let go of
}

func newBudget(max int64) *budget { return &budget{max: max, sem: semaphore.NewWeighted(max)} }

// take waits for so many bytes, of which a message larger than all there are gets all,
// or until ctx ends. give returns them; it may be called once.
func (b *budget) take(ctx context.Context, bytes int64) (give func(), err error) {
	n := min(bytes, b.max)
	if !b.sem.TryAcquire(n) {
		b.waiting.Add(1)
		err := b.sem.Acquire(ctx, n)
		b.waiting.Add(-1)
		if err != nil {
			return nil, context.Cause(ctx)
		}
	}
	return func() { b.sem.Release(n) }, nil
}
