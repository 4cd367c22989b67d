package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/importer"
)

func testOptions(dir string) Options {
	return Options{Log: hotlog.Options{Dir: dir, SegmentBytes: 1 << 20}}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openGroup(t testing.TB, opts Options) *Group {
	t.Helper()
	g, err := Open(testContext(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// createLog creates a log with an open writer at epoch 1.
func createLog(t testing.TB, g *Group, name string) logcore.LogID {
	t.Helper()
	var id logcore.LogID
	err := g.Do(testContext(t), 0, func(p *Proposer) error {
		id = p.Catalog().NextLog()
		if _, err := p.Command(catalog.Command{Op: catalog.OpCreate, Log: id, Name: name}); err != nil {
			return err
		}
		_, err := p.Command(catalog.Command{Op: catalog.OpOpenWriter, Log: id, Epoch: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func dataDraft(log logcore.LogID, epoch logcore.Epoch, seq uint64, body []byte) Draft {
	r := catalog.Record{Log: log, Epoch: epoch, Sequence: seq, Body: body}
	return r.Append(NewDraft(logcore.KindData, logcore.NewTxID(), r.Size()))
}

// appendOne appends under the log's current epoch, next in sequence, or under a new one
// when that was closed.
func appendOne(g *Group, ctx context.Context, id logcore.LogID, body []byte) (catalog.Place, error) {
	var place catalog.Place
	err := g.Do(ctx, 0, func(p *Proposer) error {
		l, err := p.Catalog().ByID(id)
		if err != nil {
			return err
		}
		if !l.WriterOpen {
			if _, err := p.Command(catalog.Command{Op: catalog.OpOpenWriter, Log: id, Epoch: l.Epoch + 1}); err != nil {
				return err
			}
		}
		place = p.Propose(dataDraft(id, l.Epoch, l.Sequence+1, body))
		return nil
	})
	return place, err
}

// readAll returns the committed entries of the hot log.
func readAll(t testing.TB, g *Group) []logcore.Entry {
	t.Helper()
	var out []logcore.Entry
	for lsn := g.HotLog().First(); lsn <= g.Committed(); {
		entries, err := g.HotLog().Entries(lsn, g.Committed()+1, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entries...)
		lsn += logcore.LSN(len(entries))
	}
	return out
}

// checkLog folds the log from LSN 1 as a reader with nothing but the entries would,
// and holds times, seals and checkpoints against what is promised.
func checkLog(t testing.TB, g *Group) {
	t.Helper()
	s := catalog.NewState()
	entries := readAll(t, g)
	for i, e := range entries {
		if err := s.Apply(e); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		prev := entries[i-1]
		if e.Time < prev.Time || e.Time == prev.Time && e.Kind != logcore.KindRaft {
			t.Fatalf("LSN %d at %v after %v", e.LSN, e.Time, prev.Time)
		}
		if prev.Kind == logcore.KindSeal && e.Kind != logcore.KindCheckpoint && e.Kind != logcore.KindRaft {
			t.Fatalf("LSN %d, %v, begins a segment", e.LSN, e.Kind)
		}
	}
	g.View(func(applied *catalog.State) {
		if string(applied.EncodeCheckpoint()) != string(s.EncodeCheckpoint()) {
			t.Fatal("the applied catalog differs from the fold of the log")
		}
	})
}

func TestGroupKeepsWhatItAcknowledged(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	var want []catalog.Place
	term := g.Status().Term
	incarnation := uint64(0)
	for round := range 3 {
		for i := range 20 {
			place, err := appendOne(g, ctx, id, fmt.Appendf(nil, "%d/%d", round, i))
			if err != nil {
				t.Fatal(err)
			}
			if place.LSN > g.Committed() {
				t.Fatalf("acknowledged LSN %d is above the committed %d", place.LSN, g.Committed())
			}
			want = append(want, place)
		}
		checkLog(t, g)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		g = openGroup(t, opts)
		if now := g.Status().Term; now <= term {
			t.Fatalf("term %d after %d", now, term)
		} else {
			term = now
		}
		g.View(func(s *catalog.State) {
			if s.Incarnation == 0 || incarnation != 0 && s.Incarnation != incarnation {
				t.Fatalf("incarnation %#x after %#x", s.Incarnation, incarnation)
			}
			incarnation = s.Incarnation
		})
	}
	byLSN := map[logcore.LSN]logcore.Entry{}
	for _, e := range readAll(t, g) {
		byLSN[e.LSN] = e
	}
	for i, p := range want {
		r, err := catalog.DecodeRecord(byLSN[p.LSN].Payload)
		if err != nil || string(r.Body) != fmt.Sprintf("%d/%d", i/20, i%20) || byLSN[p.LSN].Time != p.Time {
			t.Fatalf("LSN %d holds %q at %v, %v", p.LSN, r.Body, byLSN[p.LSN].Time, err)
		}
	}
}

// TestSegments: many concurrent writers over several segments; every segment begins
// with a checkpoint, and after trimming, a restart folds from one.
func TestSegments(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	var wg sync.WaitGroup
	for w := range 8 {
		id := createLog(t, g, fmt.Sprintf("log%d", w))
		wg.Go(func() {
			for range 60 {
				if _, err := appendOne(g, ctx, id, make([]byte, 16<<10)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	checkLog(t, g)
	segments := g.HotLog().Segments()
	if len(segments) < 5 {
		t.Fatalf("%d segments", len(segments))
	}
	for _, s := range segments[1:] {
		entries, err := g.HotLog().Entries(s.First, s.First+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if entries[0].Kind != logcore.KindCheckpoint {
			t.Fatalf("segment %d begins with %v", s.First, entries[0].Kind)
		}
	}
	if err := g.HotLog().TrimHead(segments[2].Last); err != nil {
		t.Fatal(err)
	}
	var before string
	g.View(func(s *catalog.State) { before = string(s.EncodeCheckpoint()) })
	committed := g.Committed()
	g.Close()
	g = openGroup(t, opts)
	if g.HotLog().First() != segments[3].First {
		t.Fatalf("first LSN %d, want %d", g.HotLog().First(), segments[3].First)
	}
	g.View(func(s *catalog.State) {
		if s.LSN != committed+1 { // the new term's first entry
			t.Fatalf("LSN %d after %d", s.LSN, committed)
		}
		loaded, err := catalog.DecodeCheckpoint([]byte(before))
		if err != nil {
			t.Fatal(err)
		}
		if err := loaded.Apply(logcore.Entry{LSN: s.LSN, Kind: logcore.KindRaft}); err != nil {
			t.Fatal(err)
		}
		if string(loaded.EncodeCheckpoint()) != string(s.EncodeCheckpoint()) {
			t.Fatal("the catalog changed over a restart")
		}
	})
}

// TestReopen: a restart that has nothing to propose must still tell that it leads.
func TestReopen(t *testing.T) {
	opts := testOptions(t.TempDir())
	for range 40 {
		openGroup(t, opts).Close()
	}
}

func TestRefusals(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	opts.QueueRequestsMax = 2
	g := openGroup(t, opts)
	id := createLog(t, g, "a")

	refused := errors.New("no")
	if err := g.Do(ctx, 0, func(*Proposer) error { return refused }); !errors.Is(err, refused) {
		t.Fatalf("Prepare's error: %v", err)
	}
	// While the loop stands still, the queue fills.
	entered, leave := make(chan struct{}), make(chan struct{})
	if err := g.Submit(Request{Prepare: func(*Proposer) error { close(entered); <-leave; return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	<-entered
	var queued sync.WaitGroup
	for range 2 {
		queued.Add(1)
		if err := g.Submit(Request{Prepare: func(*Proposer) error { return nil }, Done: func(error) { queued.Done() }}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Submit(Request{Prepare: func(*Proposer) error { return nil }, Done: func(error) {}}); !errors.Is(err, logcore.ErrOverloaded) {
		t.Fatalf("a full queue: %v", err)
	}
	close(leave)
	queued.Wait()
	if _, err := appendOne(g, ctx, id, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, opts); !errors.Is(err, logcore.ErrInUse) {
		t.Fatalf("a second Open: %v", err)
	}
	g.Close()
	if _, err := appendOne(g, ctx, id, nil); !errors.Is(err, logcore.ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

// TestMissingState: a log without its state file may belong to a member that voted.
func TestMissingState(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	openGroup(t, opts).Close()
	if err := os.Remove(statePath(opts.Log.Dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, opts); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("Open without a state file: %v", err)
	}
}

// TestRestored takes a log to another directory as a restore does, cut in the middle of
// a segment, and goes on there.
func TestRestored(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	for range 120 {
		if _, err := appendOne(g, ctx, id, make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	var incarnation uint64
	g.View(func(s *catalog.State) { incarnation = s.Incarnation })
	segments := g.HotLog().Segments()
	cut := segments[len(segments)-1].First + 3
	if cut > g.Committed() {
		t.Fatalf("cut at %d of %d", cut, g.Committed())
	}
	last, err := g.HotLog().Entries(cut, cut+1, 0)
	if err != nil {
		t.Fatal(err)
	}
	restored := testOptions(t.TempDir())
	err = importer.Import(ctx, restored.Log, func(yield func(span, error) bool) {
		for _, s := range segments[1:] { // the first is gone
			if !yield(g.HotLog().Span(s.First, min(s.Last, cut))) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := InitRestored(restored, last[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := InitRestored(restored, last[0]); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("InitRestored twice: %v", err)
	}
	r := openGroup(t, restored)
	r.View(func(s *catalog.State) {
		if s.Incarnation != fresh {
			t.Fatalf("incarnation %#x when it opens, want %#x", s.Incarnation, fresh)
		}
	})
	if r.Status().Term <= last[0].Term || r.Committed() <= cut || fresh == incarnation {
		t.Fatalf("term %d after %d, committed %d, incarnation %#x after %#x", r.Status().Term, last[0].Term, r.Committed(), fresh, incarnation)
	}
	if _, err := appendOne(r, ctx, id, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
	r.View(func(s *catalog.State) {
		if s.Incarnation != fresh {
			t.Fatalf("incarnation %#x, want %#x", s.Incarnation, fresh)
		}
	})
	r.Close()
	r = openGroup(t, restored)
	r.View(func(s *catalog.State) {
		if l, err := s.ByID(id); err != nil || s.Incarnation != fresh || l.Entries == 0 {
			t.Fatalf("after a restart: incarnation %#x, log %+v, %v", s.Incarnation, l, err)
		}
	})
}

// TestLostTail: a log that ends before what is known to be committed is not served as
// if nothing had been there.
func TestLostTail(t *testing.T) {
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	last := g.Committed()
	g.Close()
	s, _, _, err := readState(opts.Log.Dir)
	if err != nil || s.Commit == 0 || s.Commit > uint64(last) {
		t.Fatalf("state %+v, %v", s, err)
	}
	s.Commit = uint64(last) + 1
	if err := createState(opts.Log.Dir, s); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(testContext(t), opts); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("open of a log that lost its tail: %v", err)
	}
}

// TestClockSetBack: entries go on rising in time over a restart with an earlier wall clock.
func TestClockSetBack(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	before, err := appendOne(g, ctx, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	opts.Clock = logcore.NewClock(func() time.Time { return time.Now().Add(-time.Hour) })
	g = openGroup(t, opts)
	after, err := appendOne(g, ctx, id, nil)
	if err != nil || after.Time <= before.Time {
		t.Fatalf("%v after %v, %v", after.Time, before.Time, err)
	}
	checkLog(t, g)
}
