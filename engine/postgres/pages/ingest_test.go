package pages_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/walsample"
	"github.com/logcore/logcore/pageserver"
)

// BenchmarkIngest has a page server take a log from its beginning; the bytes are those of all payloads.
func BenchmarkIngest(b *testing.B) {
	entries := logOf(b, walsample.Consistency, 11)
	src, at := source(entries)
	total := int64(0)
	for _, e := range entries {
		for _, p := range e.Payloads {
			total += int64(len(p))
		}
	}
	b.SetBytes(total)
	for b.Loop() {
		s := enginetest.Start(b, pageserver.Options{Dir: b.TempDir(), Source: src, Formats: engine.Only(pages.Decoder{}), Logger: slog.New(slog.DiscardHandler)})
		if _, err := s.WaitLSN(b.Context(), "db", pageserver.ReadAt{LSN: at[len(at)-1], Wait: time.Minute}); err != nil {
			b.Fatal(err)
		}
		s.Stop(b)
	}
}
