package hotlog

import (
	"fmt"
	"hash/crc32"
	"os"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// crcTime is how long one core takes for the CRC-32C of bytes in memory, in pieces of
// size bytes: as one piece the limit of every reader that verifies, by frames what this
// format can reach at most.
func crcTime(bytes []byte, size int) time.Duration {
	table := crc32.MakeTable(crc32.Castagnoli)
	began, all := time.Now(), uint32(0)
	for len(bytes) > 0 {
		n := min(size, len(bytes))
		all |= crc32.Checksum(bytes[:n], table)
		bytes = bytes[n:]
	}
	if all == 0 {
		panic("void")
	}
	return time.Since(began)
}

// benchSegment is a log on the file medium with one finished segment of 64 MiB, read
// into the page cache.
func benchSegment(b *testing.B, payload int) (*Log, []byte) {
	b.Helper()
	l, _, err := Open(b.Context(), Options{Dir: b.TempDir(), SegmentBytes: 80 << 20, DiskReserveBytes: 1, CacheBytes: 1, LogOf: logOf, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	for bytes := int64(0); bytes < 64<<20; {
		var list []logcore.Entry
		for n := 0; n < 1<<20; n += payload {
			list = append(list, entry(l.Last()+1+logcore.LSN(len(list)), payload))
			bytes += segment.FrameBytes(payload)
		}
		if err := l.Append(b.Context(), list); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Append(b.Context(), []logcore.Entry{{LSN: l.Last() + 1, Kind: logcore.KindSeal, Time: 1 << 50}}); err != nil {
		b.Fatal(err)
	}
	waitFinished(b, l)
	s := (*l.view.Load())[0]
	file, err := os.ReadFile(fmt.Sprintf("%s/%s", l.dir.Path(), s.name))
	if err != nil {
		b.Fatal(err)
	}
	return l, file[segment.FramesOffset:s.committed.end]
}

// BenchmarkRead reads a sealed segment from the page cache with verification, and
// scans it like recovery does, each beside the CRC-32C of the same bytes in the same
// iteration: "of-crc" of all bytes as one piece, "of-crc-by-frame" of as many pieces as
// there are frames. Ratios count; the speeds of two runs don't compare.
func BenchmarkRead(b *testing.B) {
	for _, payload := range []int{128, 1 << 10, 8 << 10} {
		l, frames := benchSegment(b, payload)
		s := (*l.view.Load())[0]
		last := s.committed.last
		run := func(name string, read func() error) {
			b.Run(fmt.Sprintf("%s/payload=%d", name, payload), func(b *testing.B) {
				b.SetBytes(int64(len(frames)))
				b.ReportAllocs()
				var limit, byFrame, took time.Duration
				for b.Loop() {
					limit += crcTime(frames, len(frames))
					byFrame += crcTime(frames, int(segment.FrameBytes(payload)))
					began := time.Now()
					if err := read(); err != nil {
						b.Fatal(err)
					}
					took += time.Since(began)
				}
				b.ReportMetric(limit.Seconds()/took.Seconds(), "of-crc")
				b.ReportMetric(byFrame.Seconds()/took.Seconds(), "of-crc-by-frame")
				b.ReportMetric(float64(b.N)*float64(len(frames))/took.Seconds()/(1<<30), "GiB/s")
			})
		}
		run("stream", func() error {
			for e, err := range l.Stream(StreamOptions{From: 1, To: last}) {
				if err != nil || e.LSN == 0 {
					return err
				}
			}
			return nil
		})
		run("scan", func() error {
			id := segment.Identity{State: segment.StateOpen, Header: s.header, Mark: s.mark}
			_, err := segment.Recover(s.f, s.f.Size(), id, segment.RecoverOptions{Scan: true, LogOf: logOf})
			return err
		})
	}
}
