package replication

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/brokenfiles"
)

// TestPoisoned (I10): a failed write ends the group. Nothing is acknowledged from then
// on, readers are still served, and reopening recovers what was acknowledged.
func TestPoisoned(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	last, err := appendOne(g, ctx, id, []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	brokenfiles.Under(t, opts.Log.Dir)
	if _, err := appendOne(g, ctx, id, []byte("lost")); !errors.Is(err, logcore.ErrPoisoned) {
		t.Fatalf("append onto a broken device: %v", err)
	}
	if _, err := appendOne(g, ctx, id, []byte("lost")); !errors.Is(err, logcore.ErrPoisoned) {
		t.Fatalf("append afterwards: %v", err)
	}
	if g.Committed() != last.LSN || !errors.Is(g.Err(), logcore.ErrPoisoned) || g.Status().Leading {
		t.Fatalf("committed %d after %d, %v", g.Committed(), last.LSN, g.Err())
	}
	entries, err := g.HotLog().Entries(last.LSN, last.LSN+1, 0)
	if err != nil || len(entries) != 1 {
		t.Fatalf("read from a poisoned log: %v", err)
	}
	g.View(func(s *catalog.State) {
		if l, err := s.ByID(id); err != nil || l.LastLSN != last.LSN {
			t.Fatalf("catalog of a poisoned group: %+v, %v", l, err)
		}
	})
	g.Close()
	g = openGroup(t, opts)
	if _, err := appendOne(g, ctx, id, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
	checkLog(t, g)
}

// TestUnreadable (I5): an entry that is damaged behind the hot log's back ends the group
// with the place, before anything is served; the process goes on.
func TestUnreadable(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir()).withDefaults()
	opts.Log.SegmentBytes = 8 << 20
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	for range 40 { // beyond what looking for a checkpoint reads
		if _, err := appendOne(g, ctx, id, make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	g.Close()
	opts.Log.CacheBytes = 1
	hot, report, err := hotlog.Open(ctx, opts.Log)
	if err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(opts.Log.Dir, "*.seg"))
	if err != nil || len(segments) == 0 { // the first; another may stand ready
		t.Fatalf("segments %v, %v", segments, err)
	}
	f, err := os.OpenFile(segments[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 3<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	g, err = open(ctx, opts, hot, report)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	err = g.waitReady(ctx)
	var corrupt *logcore.CorruptionError
	if !errors.As(err, &corrupt) || corrupt.LSN == 0 || !errors.Is(err, logcore.ErrPoisoned) {
		t.Fatalf("open over a damaged entry: %v", err)
	}
	if _, err := appendOne(g, ctx, id, nil); !errors.Is(err, logcore.ErrPoisoned) {
		t.Fatalf("append: %v", err)
	}
}
