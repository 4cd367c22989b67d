package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
	"github.com/logcore/logcore/tiering/bucket/dir"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// must returns the bucket of a wrapper that was given good options.
func must(t *testing.T, b bucket.Bucket, err error) bucket.Bucket {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWrappersConform(t *testing.T) {
	wrap := map[string]func(*testing.T, bucket.Bucket) bucket.Bucket{
		"Retry": func(t *testing.T, b bucket.Bucket) bucket.Bucket {
			b, err := bucket.Retry(b, bucket.RetryOptions{})
			return must(t, b, err)
		},
		"Limit": func(t *testing.T, b bucket.Bucket) bucket.Bucket {
			b, err := bucket.Limit(b, 3)
			return must(t, b, err)
		},
		"Rate": func(t *testing.T, b bucket.Bucket) bucket.Bucket {
			b, err := bucket.Rate(b, bucket.RateOptions{RequestsPerSecond: 1e6, BytesPerSecond: 1e10})
			return must(t, b, err)
		},
		"Metrics": func(_ *testing.T, b bucket.Bucket) bucket.Bucket { return bucket.NewMetrics(nil).Wrap(b, "t") },
		"Faults":  func(_ *testing.T, b bucket.Bucket) bucket.Bucket { return bucket.NewFaults(b) },
		"Harden": func(t *testing.T, b bucket.Bucket) bucket.Bucket {
			b, err := bucket.Harden(b, bucket.HardenOptions{Target: "t", Concurrency: 1, Metrics: bucket.NewMetrics(prometheus.NewRegistry()),
				Rate: bucket.RateOptions{RequestsPerSecond: 1e6, BytesPerSecond: 1e10}})
			return must(t, b, err)
		},
		// All of them on top of each other, with a target that fails now and then.
		"Stacked": func(t *testing.T, b bucket.Bucket) bucket.Bucket {
			f := bucket.NewFaults(b)
			for n, effect := range []bucket.Effect{bucket.Unavailable(), bucket.DoneButLost(nil), bucket.Throttled(), bucket.Fail(nil)} {
				f.Add(bucket.Fault{From: 3 + 7*n, Count: 1, Effect: effect})
			}
			b, err := bucket.Harden(f, bucket.HardenOptions{Target: "t", Concurrency: 4, Metrics: bucket.NewMetrics(prometheus.NewRegistry()),
				Rate:  bucket.RateOptions{RequestsPerSecond: 1e6, BytesPerSecond: 1e10},
				Retry: bucket.RetryOptions{BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond}})
			return must(t, b, err)
		},
	}
	for name, wrap := range wrap {
		t.Run(name, func(t *testing.T) {
			buckettest.Run(t, func(t *testing.T) bucket.Bucket { return wrap(t, mem.New()) })
		})
	}
}

// A wrapper of a bucket that can retain can retain, and of one that can't, can't.
func TestWrappersKeepRetention(t *testing.T) {
	directory, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []bucket.Bucket{mem.New(), directory} {
		_, want := b.(bucket.Retainer)
		wrapped, err := bucket.Harden(b, bucket.HardenOptions{Target: "t", Metrics: bucket.NewMetrics(nil)})
		if err != nil {
			t.Fatal(err)
		}
		if _, got := wrapped.(bucket.Retainer); got != want {
			t.Errorf("%v: wrapped it is a Retainer: %v, bare: %v", b, got, want)
		}
	}
}

func TestIsPermanent(t *testing.T) {
	for err, want := range map[error]bool{
		bucket.ErrNotFound: true, bucket.ErrExists: true, bucket.ErrDenied: true, bucket.ErrFull: true, bucket.ErrRetention: true,
		bucket.ErrGone: true, bucket.ErrUntrusted: true, bucket.ErrInvalid: true, logcore.ErrClosed: true, logcore.ErrPoisoned: true,
		context.Canceled: true, context.DeadlineExceeded: false, bucket.ErrChecksum: false, bucket.ErrThrottled: false,
		errors.New("connection reset"): false,
	} {
		if got := bucket.IsPermanent(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("IsPermanent(%v) = %v", err, got)
		}
	}
}
