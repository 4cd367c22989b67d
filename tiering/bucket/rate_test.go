package bucket_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// within reports whether a duration is one that was to be expected, to the millisecond.
func within(got, from, to time.Duration) bool {
	return got >= from-time.Millisecond && got <= to+time.Millisecond
}

func TestRateOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bucket.Rate(mem.New(), bucket.RateOptions{RequestsPerSecond: 10})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				for range 10 {
					if err := b.Delete(t.Context(), "k"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		// 50 calls at ten a second, the first second's worth at once.
		if took := time.Since(began); !within(took, 3900*time.Millisecond, 4*time.Second) {
			t.Errorf("50 calls took %v", took)
		}
	})
}

func TestRateOfBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bucket.Rate(mem.New(), bucket.RateOptions{BytesPerSecond: 1000})
		if err != nil {
			t.Fatal(err)
		}
		put := func(key string, n int) time.Duration {
			began := time.Now()
			if err := b.PutIfAbsent(t.Context(), key, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		if took := put("a", 5000); took != 0 { // larger than what may be saved up, and goes at once
			t.Errorf("the first put waited %v", took)
		}
		if took := put("b", 1000); !within(took, 4*time.Second, 4*time.Second) {
			t.Errorf("the put after 5000 bytes waited %v", took)
		}
		time.Sleep(time.Hour) // saves up no more than a second's worth
		began := time.Now()
		for range 3 {
			if _, err := b.Get(t.Context(), "b", 0, -1); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); !within(took, time.Second, time.Second) {
			t.Errorf("three gets of 1000 bytes took %v", took)
		}
	})
}

// Who can't have its turn in time is told so at once, and takes nothing from the others.
func TestRateKeepsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bucket.Rate(mem.New(), bucket.RateOptions{BytesPerSecond: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.PutIfAbsent(t.Context(), "a", make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		for range 100 {
			if err := b.PutIfAbsent(ctx, "b", make([]byte, 10_000)); !errors.Is(err, context.DeadlineExceeded) || bucket.IsPermanent(err) {
				t.Fatal(err)
			}
		}
		canceled, stop := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, stop)
		if err := b.PutIfAbsent(canceled, "b", make([]byte, 10_000)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := b.PutIfAbsent(t.Context(), "c", nil); err != nil || !within(time.Since(began), 9*time.Second, 9*time.Second) {
			t.Errorf("after those that gave up: %v after %v", err, time.Since(began))
		}
	})
}

func TestRateOptionsAreChecked(t *testing.T) {
	if _, err := bucket.Rate(mem.New(), bucket.RateOptions{BytesPerSecond: -1}); !errors.Is(err, bucket.ErrInvalid) {
		t.Error(err)
	}
	if _, err := bucket.Harden(mem.New(), bucket.HardenOptions{Rate: bucket.RateOptions{RequestsPerSecond: -1}}); !errors.Is(err, bucket.ErrInvalid) {
		t.Error(err)
	}
}
