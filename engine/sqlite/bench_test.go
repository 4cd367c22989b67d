package sqlite

import (
	"testing"
	"time"

	"github.com/logcore/logcore/internal/sampledb"
)

// BenchmarkSample runs the sample's transactions on the real service in this process:
// loopback gRPC, synced log, page server following.
func BenchmarkSample(b *testing.B) {
	s := &service{dir: b.TempDir(), entryMax: 16 << 20, lease: 5 * time.Second}
	if err := s.start(); err != nil {
		b.Fatal(err)
	}
	defer s.stop()
	h, err := tryOpen(Options{Source: NewSource(s.source, "sample", "bench"), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer h.close()
	var commits time.Duration
	session, err := sampledb.NewSession(b.Context(), h.conn, sampledb.Options{CharactersMax: 5000,
		Acknowledged: func(a sampledb.Ack) error { commits += a.Commit; return nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	if _, err := session.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	commits = 0
	b.ResetTimer()
	if err := session.Run(b.Context(), 1, b.N); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(commits.Microseconds())/float64(b.N), "commit-µs/op")
}
