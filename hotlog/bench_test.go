package hotlog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// BenchmarkAppend measures durable appends: in flight × payload, through Submit (one
// submitter, completions refill it) and through Append (one goroutine each, which is
// what "blocking" costs). "limit" beside each is the device: the same bytes a batch
// in one pwrite and one fdatasync, looped, in the same run. Compare ratios within
// one run; the figures of two runs on a busy machine say little.
//
// TMPDIR decides which disk: a tmpfs shows the CPU's part.
func BenchmarkAppend(b *testing.B) {
	for _, payload := range []int{128, 1024} {
		for _, inflight := range []int{1, 64} {
			name := fmt.Sprintf("inflight=%d/payload=%d", inflight, payload)
			b.Run("limit/"+name, func(b *testing.B) { benchLimit(b, inflight, payload) })
			b.Run("submit/"+name, func(b *testing.B) { benchSubmit(b, inflight, payload) })
			b.Run("append/"+name, func(b *testing.B) { benchAppend(b, inflight, payload) })
		}
	}
}

func benchLog(b *testing.B) *Log {
	b.Helper()
	l, _, err := Open(context.Background(), Options{Dir: b.TempDir(), SegmentBytes: 64 << 20, DiskReserveBytes: 1 << 20, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		var m dto.Metric
		if err := l.metrics.batchEntries.Write(&m); err != nil {
			b.Error(err)
		}
		b.ReportMetric(m.GetHistogram().GetSampleSum()/max(float64(m.GetHistogram().GetSampleCount()), 1), "entries/sync")
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// benchLimit writes what inflight entries take, and nothing else.
func benchLimit(b *testing.B, inflight, payload int) {
	dir, err := media.OpenFile(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	const size = 64 << 20
	f, err := dir.Create("limit", size)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, inflight*int(segment.FrameBytes(payload)))
	b.SetBytes(int64(payload))
	b.ResetTimer()
	at := int64(0)
	for n := 0; n < b.N; n += inflight {
		if at+int64(len(buf)) > size {
			at = 0
		}
		if _, err := f.WriteAt(buf, at); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		at += int64(len(buf))
	}
}

// benchSubmit keeps inflight submissions under way. A seal goes in when it is due and
// old segments are trimmed, as a leader would.
func benchSubmit(b *testing.B, inflight, payload int) {
	l := benchLog(b)
	e := entry(1, payload)
	var failed atomic.Pointer[error]
	tokens := make(chan struct{}, inflight)
	done := func(err error) {
		if err != nil {
			failed.Store(&err)
		}
		<-tokens
	}
	one := make([]logcore.Entry, 1)
	b.SetBytes(int64(payload))
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		tokens <- struct{}{}
		if err := l.Submit(benchNext(b, l, one, e, n), done); err != nil {
			b.Fatal(err)
		}
	}
	for range inflight {
		tokens <- struct{}{}
	}
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// benchNext fills in the next entry, a SEAL now and then.
func benchNext(b *testing.B, l *Log, one []logcore.Entry, e logcore.Entry, n int) []logcore.Entry {
	e.LSN = l.Last() + 1
	if n%1024 == 0 {
		if l.SealDue() {
			e.Kind, e.Payload = logcore.KindSeal, nil
		}
		if segs := l.Segments(); len(segs) > 2 {
			if err := l.TrimHead(segs[0].Last); err != nil {
				b.Fatal(err)
			}
		}
	}
	one[0] = e
	return one
}

// benchAppend has one goroutine per append in flight.
func benchAppend(b *testing.B, inflight, payload int) {
	l := benchLog(b)
	e := entry(1, payload)
	ctx := context.Background()
	if inflight == 1 {
		one := make([]logcore.Entry, 1)
		b.SetBytes(int64(payload))
		b.ReportAllocs()
		b.ResetTimer()
		for n := range b.N {
			if err := l.Append(ctx, benchNext(b, l, one, e, n)); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetBytes(int64(payload))
	b.ReportAllocs()
	b.SetParallelism(max(inflight/2, 1)) // times GOMAXPROCS
	var sealing sync.Mutex
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		one := make([]logcore.Entry, 1)
		for n := 0; pb.Next(); n++ {
			if one[0] = e; n%64 == 0 && sealing.TryLock() {
				benchNext(b, l, one, e, 0) // a SEAL when one is due
				sealing.Unlock()
			}
			if err := l.AppendNext(ctx, one); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
