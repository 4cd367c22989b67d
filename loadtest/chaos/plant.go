package chaos

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// blind is the planted bug of an archiver that believes every put and never reads back what
// it has put: it remembers that instead.
type blind struct {
	bucket.Bucket

	mu  sync.Mutex
	put map[string][]byte // guarded by mu
}

func (b *blind) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	_ = b.Bucket.PutIfAbsent(ctx, key, data) // the bug
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put[key] = bytes.Clone(data)
	return nil
}

func (b *blind) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	b.mu.Lock()
	data, ok := b.put[key]
	b.mu.Unlock()
	if !ok {
		return b.Bucket.Get(ctx, key, offset, length)
	}
	from := min(offset, int64(len(data)))
	to := int64(len(data))
	if length >= 0 {
		to = min(from+length, to)
	}
	return bytes.Clone(data[from:to]), nil
}

// spread returns the median and the largest of durations, in milliseconds.
func spread(d []time.Duration) (p50, largest int64) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2].Milliseconds(), d[len(d)-1].Milliseconds()
}
