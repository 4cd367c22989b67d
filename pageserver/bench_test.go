package pageserver_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

const (
	benchPages    = 20_000
	benchPageSize = 4096
)

// benchServer returns a page server with benchPages pages of 4 KiB, each an image and
// a chain of deltas of 100 bytes.
func benchServer(b *testing.B, deltas int, cacheBytes int64) (*enginetest.Subject, logcore.LSN) {
	b.Helper()
	source := enginetest.NewSource(1)
	source.BatchEntries = 64
	source.Create("db")
	rng := rand.New(rand.NewPCG(1, 1))
	var last logcore.LSN
	for d := range deltas + 1 {
		for first := 0; first < benchPages; first += 16 {
			var records []engine.Record
			for n := first; n < first+16; n++ {
				records = append(records, benchRecord(rng, uint32(n), d == 0))
			}
			payloads, err := pages.Encode(records, 1<<24)
			if err != nil {
				b.Fatal(err)
			}
			last = source.AppendTx("db", enginetest.Transaction{Parts: payloads})
		}
	}
	s := enginetest.Start(b, pageserver.Options{Dir: b.TempDir(), Source: source, Decoder: pages.Decoder{}, PageCacheBytes: cacheBytes})
	if _, err := s.WaitLSN(b.Context(), "db", pageserver.ReadAt{LSN: last, Wait: pageserver.WaitMax}); err != nil {
		b.Fatal(err)
	}
	return s, last
}

func benchRecord(rng *rand.Rand, page uint32, whole bool) engine.Record {
	r := engine.Record{Space: engine.SpaceOf(1), Page: page, PageSize: benchPageSize}
	n := 100
	if whole {
		n = benchPageSize
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	if whole {
		r.Op, r.Data = engine.OpImage, data
		return r
	}
	r.Op, r.Ranges = engine.OpDelta, []engine.Range{{Offset: uint32(rng.IntN(benchPageSize - 100)), Data: data}}
	return r
}

// BenchmarkGetPages reads single random pages at the last LSN: cached, by an image
// from the store, and by an image and 8 deltas from the store.
func BenchmarkGetPages(b *testing.B) {
	for _, c := range []struct {
		name   string
		deltas int
		cache  int64
		pages  int
	}{
		{"cached", 8, 64 << 20, 1000},
		{"image", 0, 1, benchPages},
		{"chain8", 8, 1, benchPages},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, last := benchServer(b, c.deltas, c.cache)
			rng, numbers := rand.New(rand.NewPCG(2, 2)), make([]uint32, 1)
			for n := range c.pages { // warm
				numbers[0] = uint32(n)
				if _, err := s.GetPages(b.Context(), "db", engine.SpaceOf(1), numbers, pageserver.ReadAt{LSN: last}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				numbers[0] = uint32(rng.IntN(c.pages))
				set, err := s.GetPages(b.Context(), "db", engine.SpaceOf(1), numbers, pageserver.ReadAt{LSN: last})
				if err != nil || len(set.Pages[0].Data) != benchPageSize {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIngest ingests deltas of 100 bytes, 16 a transaction, spread over few pages
// or over many of 4 KiB; the metric is records a second. Each page begins as an image.
func BenchmarkIngest(b *testing.B) {
	for _, hot := range []uint32{500, 8192} {
		b.Run(fmt.Sprintf("pages=%d", hot), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(3, 3))
			source := enginetest.NewSource(1)
			source.BatchEntries = 256
			source.Create("db")
			var last logcore.LSN
			for range b.N {
				var records []engine.Record
				for range 16 {
					records = append(records, benchRecord(rng, uint32(rng.IntN(int(hot))), false))
				}
				payloads, err := pages.Encode(records, 1<<24)
				if err != nil {
					b.Fatal(err)
				}
				last = source.AppendTx("db", enginetest.Transaction{Parts: payloads})
			}
			s := enginetest.Start(b, pageserver.Options{Dir: b.TempDir(), Source: source, Decoder: pages.Decoder{}})
			b.ResetTimer()
			if _, err := s.WaitLSN(b.Context(), "db", pageserver.ReadAt{LSN: last, Wait: pageserver.WaitMax}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(16*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
