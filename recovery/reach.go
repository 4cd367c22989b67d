package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
)

// probeKey is asked for to see whether a target answers; whether it is there doesn't matter.
const probeKey = "logcore-probe/answers"

// reachable returns the targets with those that don't answer within a time replaced by
// ones that say so at once: nothing after it waits for a target that hangs.
func reachable(ctx context.Context, targets []tiering.Target, within time.Duration) []tiering.Target {
	out := slices.Clone(targets)
	var group sync.WaitGroup
	for i := range out {
		if out[i].Bucket == nil {
			continue
		}
		group.Go(func() {
			probe, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			_, err := out[i].Bucket.Head(probe, probeKey)
			switch {
			case err == nil || errors.Is(err, bucket.ErrNotFound) || ctx.Err() != nil:
			case errors.Is(err, context.DeadlineExceeded):
				out[i].Bucket = silent{out[i].Bucket.String(), fmt.Errorf("%w: no answer within %v", bucket.ErrGone, within)}
			}
		})
	}
	group.Wait()
	return out
}

// silent is a bucket that was found not to answer.
type silent struct {
	name string
	err  error
}

var _ bucket.Bucket = silent{}

func (s silent) fail() error { return fmt.Errorf("%s: %w", s.name, s.err) }

// PutIfAbsent implements bucket.Bucket.
func (s silent) PutIfAbsent(context.Context, string, []byte) error { return s.fail() }

// Get implements bucket.Bucket.
func (s silent) Get(context.Context, string, int64, int64) ([]byte, error) { return nil, s.fail() }

// Head implements bucket.Bucket.
func (s silent) Head(context.Context, string) (bucket.Attributes, error) {
	return bucket.Attributes{}, s.fail()
}

// List implements bucket.Bucket.
func (s silent) List(context.Context, string, string, func(bucket.Attributes) bool) error {
	return s.fail()
}

// Delete implements bucket.Bucket.
func (s silent) Delete(context.Context, string) error { return s.fail() }

// String implements bucket.Bucket.
func (s silent) String() string { return s.name }

// Close implements bucket.Bucket. The bucket itself is its opener's to close.
func (s silent) Close() error { return nil }
