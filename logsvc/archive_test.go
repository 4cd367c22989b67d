package logsvc_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// spanArchive keeps spans of the hot log in memory, as they are.
type spanArchive struct {
	mu      sync.Mutex
	spans   []segment.Span
	covered logcore.LSN
	flush   func(upTo logcore.LSN) // archives up to an LSN
	problem string
	erased  logcore.LSN // the body of the entry there is gone
	counted bool        // and it was no abort's
}

func (a *spanArchive) Erased(_ logcore.ShardID, _ logcore.LogID, lsn logcore.LSN) bool {
	return a.counted && lsn == a.erased
}

func (a *spanArchive) Read(_ context.Context, _ logcore.ShardID, from, to logcore.LSN) iter.Seq2[logcore.Entry, error] {
	return func(yield func(logcore.Entry, error) bool) {
		a.mu.Lock()
		spans := a.spans
		a.mu.Unlock()
		for _, s := range spans {
			for e, err := range s.Entries() {
				if err == nil && (e.LSN < from || e.LSN > to) {
					continue
				}
				if err == nil && e.LSN == a.erased {
					rec, _ := catalog.DecodeRecord(e.Payload)
					rec.Erased, rec.ErasedBytes, rec.Body = true, uint64(len(rec.Body)), nil
					e.Kind, e.Payload = logcore.KindAbort, rec.Append(nil)
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

func (a *spanArchive) Covered(logcore.ShardID) logcore.LSN {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.covered
}

func (a *spanArchive) Trimmable(s logcore.ShardID, _ bool) logcore.LSN { return a.Covered(s) }

func (a *spanArchive) Flush(_ context.Context, _ logcore.ShardID, lsn logcore.LSN) error {
	a.flush(lsn)
	return nil
}

func (a *spanArchive) Status(logcore.ShardID) logsvc.ArchiveStatus {
	if a.problem != "" {
		return logsvc.ArchiveStatus{Lag: time.Minute, Problems: []string{a.problem}}
	}
	return logsvc.ArchiveStatus{}
}

func (a *spanArchive) Targets(context.Context) ([]logsvc.Target, error) {
	return []logsvc.Target{{Name: "m1", Healthy: true, Fragments: 3, Capabilities: []string{"put-if-absent"}}}, nil
}

// archiveUpTo copies what the hot log holds up to lsn and the archive does not.
func (a *spanArchive) archiveUpTo(t testing.TB, n *node, lsn logcore.LSN) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range n.group.HotLog().Segments() {
		first, last := max(s.First, a.covered+1), min(s.Last, lsn)
		if last < first {
			continue
		}
		span, err := n.group.HotLog().Span(first, last)
		if err != nil {
			t.Error(err)
			return
		}
		a.spans, a.covered = append(a.spans, span), span.Last
	}
}

func fillSegments(t testing.TB, n *node, w *client.Writer, segments int) (want []string) {
	t.Helper()
	for len(n.group.HotLog().Segments()) < segments {
		body := fmt.Sprintf("%d-%0*d", len(want), 30000, 0)
		mustAppend(t, w, body)
		want = append(want, body)
	}
	return want
}

// TestTrimAndReadFromArchive (I6): what the archive covers leaves the hot tier, no more,
// and a read goes on through both without a seam.
func TestTrimAndReadFromArchive(t *testing.T) {
	a := &spanArchive{}
	n := start(t, t.TempDir(), "", logsvc.Options{Archive: a, HotBytesKeep: 1, TrimEvery: time.Hour}, replication.Options{})
	a.flush = func(lsn logcore.LSN) { a.archiveUpTo(t, n, lsn) }
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	want := fillSegments(t, n, w, 6)
	segments := n.group.HotLog().Segments()

	if err := n.svc.TrimHot(); err != nil {
		t.Fatal(err)
	}
	if first := n.group.HotLog().First(); first != 1 {
		t.Fatalf("trimmed to %d although nothing is archived", first)
	}
	a.archiveUpTo(t, n, segments[2].Last+1) // three segments and a little of the fourth
	if err := n.svc.TrimHot(); err != nil {
		t.Fatal(err)
	}
	if first := n.group.HotLog().First(); first != segments[3].First {
		t.Fatalf("first LSN %d, want %d", first, segments[3].First)
	}
	check := func() {
		t.Helper()
		entries := readLog(t, c, "a", client.ReadOptions{})
		if len(entries) != len(want) {
			t.Fatalf("%d entries, want %d", len(entries), len(want))
		}
		for i, e := range entries {
			if string(e.Payload) != want[i] {
				t.Fatalf("entry %d is %.20q", i, e.Payload)
			}
		}
		if mid := readLog(t, c, "a", client.ReadOptions{From: entries[10].LSN, To: entries[20].LSN}); len(mid) != 11 {
			t.Fatalf("%d entries of a range in the archive", len(mid))
		}
	}
	check()
	archived, err := c.Flush(ctx, "a")
	if err != nil || archived < w.LastLSN() {
		t.Fatalf("flush: %d, %v", archived, err)
	}
	if err := n.svc.TrimHot(); err != nil {
		t.Fatal(err)
	}
	segments = n.group.HotLog().Segments()
	if len(segments) != 1 || segments[0].First > n.group.Checkpoint() {
		t.Fatalf("%d segments, the first at %d, checkpoint at %d: the newest checkpoint must stay", len(segments), segments[0].First, n.group.Checkpoint())
	}
	check()
	info, err := c.Info(ctx, "a")
	if err != nil || info.HotFirstLSN != segments[0].First || info.Archived != archived || info.FirstLSN >= info.HotFirstLSN {
		t.Errorf("info %+v, %v", info, err)
	}
	targets, err := c.Targets(ctx)
	if err != nil || len(targets) != 1 || targets[0].Fragments != 3 {
		t.Errorf("targets %+v, %v", targets, err)
	}
	a.problem = "target m1 is full"
	st, err := c.Status(ctx)
	if err != nil || st.Healthy || len(st.Problems) != 1 || st.Shards[0].ArchiveLag != time.Minute {
		t.Errorf("status %+v, %v", st, err)
	}
	// What was trimmed is no longer anywhere when the archive loses it: said, not skipped.
	a.mu.Lock()
	a.spans = a.spans[1:]
	a.mu.Unlock()
	if _, err := readLogErr(t, c, "a", client.ReadOptions{}); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("read over a gap in the archive: %v", err)
	}
}

func TestHotBytesKeep(t *testing.T) {
	a := &spanArchive{}
	n := start(t, t.TempDir(), "", logsvc.Options{Archive: a, HotBytesKeep: 2 << 20, TrimEvery: 10 * time.Millisecond}, replication.Options{})
	c := n.client(client.Options{})
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	fillSegments(t, n, w, 6)
	a.archiveUpTo(t, n, n.group.Committed())
	for n.group.HotLog().First() == 1 { // the housekeeping trims
		time.Sleep(5 * time.Millisecond)
	}
	var hot int64
	for _, s := range n.group.HotLog().Segments() {
		hot += s.Bytes
	}
	if hot < 2<<20 || hot > 4<<20 {
		t.Errorf("%d bytes stay hot, want 2 to 4 MiB", hot)
	}
}

// TestErasedIsNotAnAbort (I3): what the archive erased although it counted is not read as the
// abort that stands in its place, but refused; what was an abort's is read as one, and what is behind is read.
func TestErasedIsNotAnAbort(t *testing.T) {
	a := &spanArchive{}
	n := start(t, t.TempDir(), "", logsvc.Options{Archive: a, HotBytesKeep: 1, TrimEvery: time.Hour}, replication.Options{})
	c := n.client(client.Options{})
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	fillSegments(t, n, w, 4)
	entries := readLog(t, c, "a", client.ReadOptions{})
	a.archiveUpTo(t, n, n.group.HotLog().Durable())
	if err := n.svc.TrimHot(); err != nil {
		t.Fatal(err)
	}
	a.erased = entries[3].LSN
	if got := readLog(t, c, "a", client.ReadOptions{}); len(got) != len(entries) || got[3].Kind != logcore.KindAbort {
		t.Fatalf("%d of %d entries, the erased one is %v", len(got), len(entries), got[3].Kind)
	}
	a.counted = true
	if got, err := readLogErr(t, c, "a", client.ReadOptions{}); len(got) > 3 || !errors.Is(err, logcore.ErrTrimmed) {
		t.Fatalf("an erased entry was read: %d entries, %v", len(got), err)
	}
	if got := readLog(t, c, "a", client.ReadOptions{From: entries[4].LSN}); len(got) != len(entries)-4 {
		t.Fatalf("%d of %d entries behind it", len(got), len(entries)-4)
	}
}
