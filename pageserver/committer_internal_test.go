package pageserver

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/patience"
)

// TestNobodyWaitsForASetToGrow: a set that waits to grow is written at once when somebody waits for what is in it, a full or a
// small one in any case.
func TestNobodyWaitsForASetToGrow(t *testing.T) {
	was := growFor
	growFor = time.Hour
	defer func() { growFor = was }()
	for name, c := range map[string]struct {
		bytes int
		end   func(*committer) error
	}{
		"full":        {writeSetBytesMax, func(c *committer) error { c.group.Wait(); return nil }},
		"settled":     {growBytesMin, (*committer).settle},
		"closed":      {growBytesMin, (*committer).close},
		"not growing": {growBytesMin / 2, func(c *committer) error { c.group.Wait(); return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{db: memoryStore(t, vfs.NewMem(), false)}
			s.opts.MemTableBytes = 1 << 30
			s.metrics = newMetrics(s)
			l := newLogState(1, nil, stateValue{})
			w := newCommitter(t.Context(), s, l, func() {})
			set := newWriteSet()
			key, value := set.version(engine.SpaceOf(1), 1, c.bytes)
			appendVersionKey(key[:0], 1, engine.SpaceOf(1), 1, pos{1, 0})
			copy(value, appendVersionHeader(nil, versionHeader{kind: kindImage, pageSize: 1}))
			set.pos = stateValue{ingested: 1}
			if err := w.give(set); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // it waits by then; on a machine that is late the test shows less, but does not fail
			if err := patience.Return(t, "the set is written", func() error { return c.end(w) }); err != nil {
				t.Fatal(err)
			}
			if err := w.close(); err != nil || l.snapshot().ingested != 1 {
				t.Errorf("ingested up to LSN %d, %v", l.snapshot().ingested, err)
			}
			if err := s.db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
