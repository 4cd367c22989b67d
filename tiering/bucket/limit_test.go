package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		f := bucket.NewFaults(mem.New())
		f.Add(bucket.Fault{Effect: bucket.Effect{Before: func(context.Context, bucket.Call) error {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			running.Add(-1)
			return nil
		}}})
		b, err := bucket.Limit(f, 4)
		b = must(t, b, err)
		var group sync.WaitGroup
		began := time.Now()
		for i := range 20 {
			group.Go(func() {
				if err := b.PutIfAbsent(t.Context(), fmt.Sprint(i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		synctest.Wait()
		if _, err := b.Get(ctx, "0", 0, -1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a slot past the deadline: %v", err)
		}
		group.Wait()
		if most.Load() != 4 || time.Since(began) != 5*time.Second {
			t.Errorf("%d at once, 20 calls of a second took %v; want 4 and 5s", most.Load(), time.Since(began))
		}
	})
	if _, err := bucket.Limit(mem.New(), 0); !errors.Is(err, bucket.ErrInvalid) {
		t.Errorf("limit 0: %v", err)
	}
}
