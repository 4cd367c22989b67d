package pageserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// lastWith returns an LSN at which the page exists with a version of its own.
func lastWith(t *testing.T, r *rig, space engine.Space, page int) logcore.LSN {
	t.Helper()
	for at := r.source.Last(); at > 0; at-- {
		state, err := enginetest.Replay(pages.Decoder{}, r.source.Entries("db"), at)
		if err != nil {
			t.Fatal(err)
		}
		if sp := state.Spaces[space]; sp != nil && page < len(sp.Pages) && sp.Pages[page].Written {
			return at
		}
	}
	t.Fatal("the page never existed: the run is void")
	return 0
}

func requireCorrupt(t *testing.T, err error) {
	t.Helper()
	var c *logcore.CorruptionError
	if !errors.As(err, &c) {
		t.Fatalf("got %v, want a CorruptionError", err)
	}
}

func image(space engine.Space, page uint32, fill byte) engine.Record {
	return engine.Record{Space: space, Op: engine.OpImage, Page: page, PageSize: 64, Data: slices.Repeat([]byte{fill}, 64)}
}

func delta(space engine.Space, page uint32, offset uint32, fill byte) engine.Record {
	return engine.Record{Space: space, Op: engine.OpDelta, Page: page, PageSize: 64, Ranges: []engine.Range{{Offset: offset, Data: []byte{fill}}}}
}

func appendRecords(t *testing.T, source *enginetest.Source, log string, records ...engine.Record) logcore.LSN {
	t.Helper()
	payloads, err := pages.Encode(records, 1<<24)
	if err != nil {
		t.Fatal(err)
	}
	return source.AppendTx(log, enginetest.Transaction{Parts: payloads})
}

func TestLag(t *testing.T) {
	r := newRig(t, 10)
	s := r.start()
	last := r.source.Last()
	var lag *logcore.LagError
	_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{LSN: last + 5, Wait: 20 * time.Millisecond})
	if !errors.As(err, &lag) || lag.Asked != last+5 || lag.Available != last || lag.Waited <= 0 {
		t.Fatalf("got %v (%+v), want a LagError of 5", err, lag)
	}
	// What the caller knows spares the wait.
	set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{LSN: last + 5, NotModifiedSince: last, Wait: wait})
	if err != nil || set.LSN != last+5 {
		t.Fatalf("not modified since %d: LSN %d, %v", last, set.LSN, err)
	}
	// A waiting reader is woken by the entry it waits for.
	got := make(chan error, 1)
	go func() {
		_, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: last + 1, Wait: wait})
		got <- err
	}()
	appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 0, 'x'))
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.WaitLSN(ctx, "db", pageserver.ReadAt{LSN: 1 << 40, Wait: wait}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled wait: %v", err)
	}
}

func TestRequests(t *testing.T) {
	r := newRig(t, 10)
	s := r.start()
	if _, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), make([]uint32, pageserver.PagesMax+1), pageserver.ReadAt{}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("too many pages: %v", err)
	}
	if set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), make([]uint32, pageserver.PagesMax), pageserver.ReadAt{}); err != nil || len(set.Pages) != pageserver.PagesMax {
		t.Errorf("%d pages: %v", len(set.Pages), err)
	}
	for log, want := range map[string]error{"none": logcore.ErrLogNotFound, "": logcore.ErrInvalid, "-bad": logcore.ErrInvalid} {
		if _, err := s.GetPages(t.Context(), log, engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{}); !errors.Is(err, want) {
			t.Errorf("log %q: %v, want %v", log, err, want)
		}
	}
	if size, err := s.SpaceSize(t.Context(), "db", engine.SpaceOf(12345), pageserver.ReadAt{}); err != nil || size.PageSize != 0 || size.Pages != 0 {
		t.Errorf("a space that does not exist: %+v, %v", size, err)
	}
	s.Stop(t)
	if _, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{Wait: time.Millisecond}); err == nil {
		t.Error("answered after Close")
	}
}

// TestNewLogAtOnce: a log that was created a moment ago is found by the request.
func TestNewLogAtOnce(t *testing.T) {
	r := newRig(t, 20) // a single one may be aborted and leave no space
	r.opts.PollInterval = time.Hour
	s := r.start()
	r.compare(s, "db", 1)
	r.source.Create("other")
	lsn := appendRecords(t, r.source, "other", image(engine.SpaceOf(1), 3, 'o'))
	set, err := s.GetPages(t.Context(), "other", engine.SpaceOf(1), []uint32{3}, pageserver.ReadAt{Wait: wait}) // newest: waits for what the log had
	if err != nil || set.LSN < lsn || len(set.Pages[0].Data) != 64 {
		t.Fatalf("%+v, %v", set, err)
	}
}

func TestPageReturnsAsZeros(t *testing.T) {
	r := newRig(t, 0)
	s := r.start()
	appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 5, 'a'))
	cut := appendRecords(t, r.source, "db", engine.Record{Space: engine.SpaceOf(1), Op: engine.OpTruncate, Page: 2, PageSize: 64})
	grown := appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 9, 'b'))
	back := appendRecords(t, r.source, "db", delta(engine.SpaceOf(1), 5, 1, 'c'))
	for lsn, want := range map[logcore.LSN]string{cut: "", grown: strings.Repeat("\x00", 64), back: "\x00c" + strings.Repeat("\x00", 62)} {
		set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{5}, pageserver.ReadAt{LSN: lsn, Wait: wait})
		if err != nil || string(set.Pages[0].Data) != want {
			t.Errorf("at %d: %q, want %q (%v)", lsn, set.Pages[0].Data, want, err)
		}
	}
}

// TestChainBound: however many deltas a page gets, few have to be applied.
func TestChainBound(t *testing.T) {
	r := newRig(t, 0)
	r.opts.ChainDeltasMax = 16
	s := r.start()
	appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 0, 'a'))
	var last logcore.LSN
	for i := range 300 {
		last = appendRecords(t, r.source, "db", delta(engine.SpaceOf(1), 0, uint32(i%3), byte(i)))
	}
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: last, Wait: wait}); err != nil {
		t.Fatal(err)
	}
	longest, err := pageserver.LongestChain(s.Server)
	if err != nil || longest < 2 || longest > 16 {
		t.Errorf("longest chain %d, want 2 to 16 (%v)", longest, err)
	}
	// 64-byte pages, 5 bytes a delta: the bytes bound the chain before the count does.
	if longest > 64/5 {
		t.Errorf("a chain of %d deltas is larger than its page", longest)
	}
}

func TestResolveTime(t *testing.T) {
	r := newRig(t, 40)
	s := r.start()
	fork := r.source.Last() / 2
	if _, _, err := s.CreateBranch(t.Context(), "db", "fork", pageserver.ReadAt{LSN: fork, Wait: wait}); err != nil {
		t.Fatal(err)
	}
	r.append("fork", 20)
	r.append("db", 20)
	for _, log := range []string{"db", "fork"} {
		for _, e := range r.source.Entries(log) {
			for _, at := range []time.Time{e.Time.Wall(), e.Time.Wall().Add(-time.Millisecond)} {
				wantLSN, wantTime := lastVisibleBy(r.source.Entries(log), at)
				lsn, hlc, err := s.ResolveTime(t.Context(), log, at, wait)
				if wantLSN == 0 {
					if !errors.Is(err, logcore.ErrTrimmed) {
						t.Fatalf("before the beginning: %v", err)
					}
					continue
				}
				if err != nil || lsn != wantLSN || hlc != wantTime {
					t.Fatalf("%s at %v: LSN %d (%v), want %d (%v): %v", log, at, lsn, hlc, wantLSN, wantTime, err)
				}
			}
		}
	}
	if _, _, err := s.ResolveTime(t.Context(), "none", time.Now(), wait); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("unknown log: %v", err)
	}
}

func lastVisibleBy(entries []pageserver.Entry, at time.Time) (lsn logcore.LSN, hlc logcore.HLC) {
	for _, e := range entries {
		if (e.Kind == logcore.KindData || e.Kind == logcore.KindCommit) && !e.Time.Wall().After(at) {
			lsn, hlc = e.LSN, e.Time
		}
	}
	return lsn, hlc
}

func TestBranchErrors(t *testing.T) {
	r := newRig(t, 5)
	s := r.start()
	last := r.source.Last()
	if _, _, err := s.CreateBranch(t.Context(), "db", "db", pageserver.ReadAt{}); !errors.Is(err, logcore.ErrLogExists) {
		t.Errorf("existing name: %v", err)
	}
	if _, _, err := s.CreateBranch(t.Context(), "none", "b", pageserver.ReadAt{}); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("no parent: %v", err)
	}
	if _, _, err := s.CreateBranch(t.Context(), "db", "b", pageserver.ReadAt{LSN: last + 9, Wait: time.Millisecond}); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Errorf("in the future: %v", err)
	}
	if _, _, err := s.CreateBranch(t.Context(), "db", "bad name", pageserver.ReadAt{}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
}

// TestBadPayload: a log with an entry the decoder refuses stops there and says so;
// what came before it is served, and the other logs go on.
func TestBadPayload(t *testing.T) {
	for name, payload := range map[string][]byte{"garbage": []byte("not pages"), "page size": nil} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 20)
			good := r.source.Last()
			r.source.Create("bad")
			before := appendRecords(t, r.source, "bad", image(engine.SpaceOf(1), 0, 'g'))
			if payload == nil {
				other := image(engine.SpaceOf(1), 1, 'x')
				other.PageSize, other.Data = 32, other.Data[:32]
				appendRecords(t, r.source, "bad", other)
			} else {
				r.source.Append("bad", logcore.KindData, logcore.NewTxID(), payload)
			}
			s := r.start()
			set, err := s.GetPages(t.Context(), "bad", engine.SpaceOf(1), []uint32{0}, pageserver.ReadAt{LSN: before, Wait: wait})
			if err != nil || len(set.Pages[0].Data) != 64 {
				t.Fatalf("before the bad entry: %v", err)
			}
			_, err = s.GetPages(t.Context(), "bad", engine.SpaceOf(1), []uint32{0}, pageserver.ReadAt{LSN: r.source.Last(), Wait: wait})
			if !errors.Is(err, logcore.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("up to LSN %d only", before)) {
				t.Fatalf("after it: %v", err)
			}
			if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", good, r.spaces); err != nil {
				t.Fatal(err)
			}
			if n := r.metric("stopped_logs"); n != 1 {
				t.Errorf("%v logs stopped, want 1", n)
			}
			if n := value(r.corruptions) + r.metric("store_rebuilds_total"); n != 0 {
				t.Errorf("%v: the store was blamed", n)
			}
		})
	}
}

// TestTrimmedLog: a log whose beginning is gone cannot be built, and is not served as
// if it were whole.
func TestTrimmedLog(t *testing.T) {
	r := newRig(t, 30)
	r.source.Trim("db", r.source.Last()/2)
	s := r.start()
	_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{LSN: r.source.Last(), Wait: wait})
	if !errors.Is(err, logcore.ErrTrimmed) {
		t.Fatalf("got %v, want ErrTrimmed", err)
	}
}

// TestFencedParts: the parts of a writer that was fenced are forgotten, on disk too.
func TestFencedParts(t *testing.T) {
	r := newRig(t, 0)
	s := r.start()
	payloads, err := pages.Encode([]engine.Record{image(engine.SpaceOf(1), 0, 'z')}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	lsn, _ := r.source.Append("db", logcore.KindPart, logcore.NewTxID(), payloads[0])
	waitFor(t, s, lsn)
	if n, err := pageserver.OpenParts(s.Server); n != 1 || err != nil {
		t.Fatalf("%d open parts, %v: the run is void", n, err)
	}
	r.source.NewEpoch("db")
	waitFor(t, s, appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 1, 'y')))
	if n, err := pageserver.OpenParts(s.Server); n != 0 || err != nil {
		t.Errorf("%d open parts after a new epoch, %v", n, err)
	}
}

func waitFor(t *testing.T, s *enginetest.Subject, lsn logcore.LSN) {
	t.Helper()
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: lsn, Wait: wait}); err != nil {
		t.Fatal(err)
	}
}

// TestOpen: what a directory may be.
func TestOpen(t *testing.T) {
	r := newRig(t, 20)
	s := r.start()
	r.compare(s, "db", 1)
	if _, err := pageserver.Open(r.opts); !errors.Is(err, logcore.ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	s.Stop(t)

	marker := filepath.Join(r.opts.Dir, "FORMAT")
	sound, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	newer := []byte("LCPSTORE\x09\x00\x09\x00\x00\x00\x00\x00\xb5\xb4\x60\x6c\x8e\x3f\x46\xb7")
	if err := os.WriteFile(marker, pageserver.SealMarker(newer), 0o644); err != nil {
		t.Fatal(err)
	}
	r.opts.Registerer = nil
	if _, err := pageserver.Open(r.opts); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("a newer store: %v", err)
	}
	if err := os.WriteFile(marker, sound, 0o644); err != nil {
		t.Fatal(err)
	}
	s = r.start()
	r.compare(s, "db", 5)
	if n := value(r.corruptions); n != 0 {
		t.Errorf("%v corruptions: the newer store was not left as it was", n)
	}
	err = func() error {
		_, err := pageserver.Open(pageserver.Options{MemTableBytes: 1, FlushInterval: -1})
		return err
	}()
	for _, field := range []string{"Dir", "Source", "Decoder", "MemTableBytes", "FlushInterval"} {
		if !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not reported: %v", field, err)
		}
	}
}

// TestFalseClaim: a caller who claims that a page was not modified, when it was, gets
// what follows from that; nobody else does.
func TestFalseClaim(t *testing.T) {
	r := newRig(t, 0)
	s := r.start()
	first := appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 0, 'a'))
	waitFor(t, s, first)
	future := first + 100
	set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{0}, pageserver.ReadAt{LSN: future, NotModifiedSince: first, Wait: wait})
	if err != nil || set.Pages[0].Data[0] != 'a' {
		t.Fatalf("%+v, %v", set, err)
	}
	for last := first; last < future; {
		last = appendRecords(t, r.source, "db", image(engine.SpaceOf(1), 0, byte(last)))
	}
	if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", future, []engine.Space{engine.SpaceOf(1)}); err != nil {
		t.Error(err)
	}
}

// TestCachedReads: pages read again and again at the newest and at older LSNs while
// they change, are cut and come back are those of the replay.
func TestCachedReads(t *testing.T) {
	r := newRig(t, 50)
	r.opts.PageCacheBytes = 8 << 20
	s := r.start()
	r.compare(s, "db", 1)
	for range 60 {
		r.append("db", 2)
		for _, at := range []logcore.LSN{0, r.source.Last(), r.source.Last() - 2, r.source.Last() / 2, r.source.Last()} {
			if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
				t.Fatal(err)
			}
		}
	}
	if hits := r.metric("page_cache_hits_total"); hits < 1000 {
		t.Errorf("%v cache hits: the run is void", hits)
	}
}
