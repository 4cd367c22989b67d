package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// inBubble runs a test in fake time with a faulty bucket under retries.
func inBubble(t *testing.T, o bucket.RetryOptions, run func(t *testing.T, b bucket.Bucket, f *bucket.Faults)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := bucket.NewFaults(mem.New())
		b, err := bucket.Retry(f, o)
		run(t, must(t, b, err), f)
	})
}

func TestRetryRepeatsWhatMayPass(t *testing.T) {
	for name, effect := range map[string]bucket.Effect{
		"lost": bucket.Fail(nil), "503": bucket.Unavailable(), "stored but reported lost": bucket.DoneButLost(nil),
		"checksum": bucket.Fail(bucket.ErrChecksum), "throttled": bucket.Throttled(),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, bucket.RetryOptions{}, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
				rule := f.Add(bucket.Fault{Count: 2, Effect: effect})
				if err := b.PutIfAbsent(t.Context(), "k", []byte("v")); err != nil {
					t.Fatal(err)
				}
				if rule.Hits() != 2 || f.Count(bucket.OpPut) != 3 {
					t.Fatalf("%d hits, %d puts; want 2 and 3", rule.Hits(), f.Count(bucket.OpPut))
				}
				if got, err := b.Get(t.Context(), "k", 0, -1); err != nil || string(got) != "v" {
					t.Fatalf("%q, %v", got, err)
				}
			})
		})
	}
}

func TestRetryLeavesThePermanent(t *testing.T) {
	inBubble(t, bucket.RetryOptions{}, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
		for _, permanent := range []error{bucket.ErrDenied, bucket.ErrFull, bucket.ErrGone, bucket.ErrUntrusted, bucket.ErrInvalid} {
			before := f.Count(bucket.OpAny)
			f.Add(bucket.Fault{Effect: bucket.Fail(permanent)})
			began := time.Now()
			if err := b.Delete(t.Context(), "k"); !errors.Is(err, permanent) {
				t.Errorf("got %v, want %v", err, permanent)
			}
			if n := f.Count(bucket.OpAny) - before; n != 1 || time.Since(began) != 0 {
				t.Errorf("%v: %d calls in %v", permanent, n, time.Since(began))
			}
			f.Up()
		}
	})
}

func TestRetryGivesUp(t *testing.T) {
	o := bucket.RetryOptions{Attempts: 4, BackoffMin: time.Second, BackoffMax: 3 * time.Second}
	inBubble(t, o, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
		f.Add(bucket.Fault{Effect: bucket.Unavailable()})
		var total time.Duration
		for range 10 {
			began, before := time.Now(), f.Count(bucket.OpGet)
			_, err := b.Get(t.Context(), "k", 0, -1)
			if err == nil || !strings.Contains(err.Error(), "after 4 attempts") || !strings.Contains(err.Error(), "503") {
				t.Fatal(err)
			}
			if n := f.Count(bucket.OpGet) - before; n != 4 {
				t.Fatalf("%d attempts", n)
			}
			took := time.Since(began)
			if limit := (1 + 2 + 3) * time.Second; took > limit {
				t.Fatalf("waited %v, at most %v was due", took, limit)
			}
			total += took
		}
		// Full jitter: half of the limit on average. 30 draws never come near the ends.
		if total < 10*time.Second || total > 50*time.Second {
			t.Fatalf("waited %v in ten calls: no jitter over the whole range", total)
		}
	})
}

func TestRetryBudget(t *testing.T) {
	inBubble(t, bucket.RetryOptions{Attempts: 3, Budget: 0.1, BudgetBurst: 6}, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
		f.Add(bucket.Fault{Effect: bucket.Unavailable()})
		const calls = 200
		var err error
		for range calls {
			_, err = b.Head(t.Context(), "k")
		}
		if err == nil || !strings.Contains(err.Error(), "budget") {
			t.Errorf("the error doesn't say that the budget is used up: %v", err)
		}
		if n := f.Count(bucket.OpHead); n < calls+6+calls/10-2 || n > calls+6+calls/10 {
			t.Errorf("%d attempts for %d calls of a provider that is down", n, calls)
		}
		f.Up()
		for range 30 { // calls that succeed earn it back
			b.Delete(t.Context(), "x")
		}
		rule := f.Add(bucket.Fault{Count: 2, Effect: bucket.Unavailable()})
		if err := b.PutIfAbsent(t.Context(), "k", nil); err != nil || rule.Hits() != 2 {
			t.Errorf("after the provider came back: %v, %d hits", err, rule.Hits())
		}
	})
}

func TestRetryThrottlingIsNoFault(t *testing.T) {
	inBubble(t, bucket.RetryOptions{Attempts: 2, ThrottleWaits: 5, BudgetBurst: 1}, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
		for range 10 { // would use up attempts and budget long ago
			rule := f.Add(bucket.Fault{Count: 5, Effect: bucket.Throttled()})
			if err := b.Delete(t.Context(), "k"); err != nil || rule.Hits() != 5 {
				t.Fatalf("%v after %d hits", err, rule.Hits())
			}
		}
		f.Add(bucket.Fault{Effect: bucket.Throttled()})
		if err := b.Delete(t.Context(), "k"); !errors.Is(err, bucket.ErrThrottled) {
			t.Fatalf("throttled for ever: %v", err)
		}
	})
}

func TestRetryKeepsDeadlines(t *testing.T) {
	inBubble(t, bucket.RetryOptions{AttemptTimeout: time.Second, Attempts: 100, BudgetBurst: 100}, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
		hang := f.Add(bucket.Fault{Count: 1, Effect: bucket.Hang()})
		if err := b.PutIfAbsent(t.Context(), "k", nil); err != nil || hang.Hits() != 1 {
			t.Errorf("one attempt that hangs: %v", err)
		}
		f.Add(bucket.Fault{Effect: bucket.Unavailable()})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := b.Delete(ctx, "k")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "503") || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := b.Delete(ctx, "k"); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

// A listing that breaks in the middle goes on, without a key twice or missing.
func TestRetryList(t *testing.T) {
	inBubble(t, bucket.RetryOptions{}, func(t *testing.T, b bucket.Bucket, f *bucket.Faults) {
		var want []string
		for i := range 2500 {
			key := fmt.Sprintf("k/%05d", i)
			want = append(want, key)
			if err := f.PutIfAbsent(t.Context(), key, nil); err != nil {
				t.Fatal(err)
			}
		}
		rule := f.Add(bucket.Fault{Op: bucket.OpList, From: 2, Count: 2, Effect: bucket.DoneButLost(nil)})
		var got []string
		err := b.List(t.Context(), "k/", "", func(a bucket.Attributes) bool { got = append(got, a.Key); return true })
		if err != nil || !slices.Equal(got, want) || rule.Hits() != 2 {
			t.Fatalf("%d keys, %v, %d hits", len(got), err, rule.Hits())
		}
	})
}

func TestRetryOptionsReportAllThatIsBad(t *testing.T) {
	_, err := bucket.Retry(mem.New(), bucket.RetryOptions{Attempts: -1, AttemptTimeout: -1, BackoffMin: 5, BackoffMax: 3, Budget: -1, BudgetBurst: -1, ThrottleWaits: -1})
	if !errors.Is(err, bucket.ErrInvalid) {
		t.Fatal(err)
	}
	for _, field := range []string{"Attempts", "AttemptTimeout", "BackoffMin", "Budget ", "BudgetBurst", "ThrottleWaits"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is missing: %v", field, err)
		}
	}
}
