package pageserver_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// farRig is a rig whose source has an archive of all but the last entries of "db".
func farRig(t *testing.T) (*rig, *enginetest.Archive) {
	t.Helper()
	r := newRig(t, 200)
	a := enginetest.NewArchive(r.source)
	a.Cover()
	r.append("db", 40)
	r.spaces = enginetest.SpacesOf(t, r.source, pages.Decoder{}, "db")
	r.opts.Archive, r.opts.ArchiveAfterBytes = a, 1
	return r, a
}

// followed counts the entries that a source hands out, and can leave one out at the beginning of
// a stream: a switch at the wrong place.
type followed struct {
	*enginetest.Source
	mu      sync.Mutex
	streams []logcore.LSN // where each began; guarded by mu
	entries int           // guarded by mu
	skip    int           // streams that begin one entry late; guarded by mu
}

func (f *followed) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		f.mu.Lock()
		f.streams = append(f.streams, from)
		late := f.skip > 0
		f.skip--
		f.mu.Unlock()
		for b, err := range f.Source.Follow(ctx, log, from) {
			f.mu.Lock()
			f.entries += len(b.Entries)
			f.mu.Unlock()
			if late && len(b.Entries) > 0 {
				b.Entries, late = slices.Delete(slices.Clone(b.Entries), 0, 1), false
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

func (f *followed) state() (streams []logcore.LSN, entries int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.streams), f.entries
}

// TestFarBehind: what the archive has does not come from the log service, and the switch is at the
// entry after it.
func TestFarBehind(t *testing.T) {
	r, a := farRig(t)
	source := &followed{Source: r.source}
	r.opts.Source = source
	s := r.start()
	r.compare(s, "db", 40)
	st := statusOf(t, s.Server, "db", pageserver.StateFollowing)
	if st.From != pageserver.FromLogService || st.Lag != (pageserver.Lag{Last: st.Lag.Last}) {
		t.Errorf("%+v", st)
	}
	streams, live := source.state()
	reads, archived := a.Taken()
	archived -= reads - 1 // one entry is met again each time
	all := len(r.source.Entries("db"))
	if len(streams) != 1 || live+archived != all || archived < all/2 || live == 0 {
		t.Errorf("%d entries from the archive and %d of %d in streams from %v", archived, live, all, streams)
	}
	if got := r.metric("archived_entries_total"); got != float64(archived) {
		t.Errorf("%v counted, %d handed out", got, archived)
	}
	if r.metric("source_violations_total") != 0 || r.metric("source_switches_total") != 2 {
		t.Errorf("%v violations, %v switches", r.metric("source_violations_total"), r.metric("source_switches_total"))
	}
	// A restart near the end leaves the archive alone, but for the entry that it has to meet.
	s.Stop(t)
	r.opts.ArchiveAfterBytes = 1 << 20
	r.append("db", 5)
	s = r.start()
	r.compare(s, "db", 5)
	if again, _ := a.Taken(); again != reads {
		t.Errorf("the archive was read %d times after a restart", again-reads)
	}
}

// TestNoLongerHot: what the log service no longer has at hand is read from the archive, little as it is.
func TestNoLongerHot(t *testing.T) {
	r, a := farRig(t)
	r.opts.ArchiveAfterBytes = 1 << 40
	r.source.SetHot(r.source.Last() - 5)
	s := r.start()
	r.compare(s, "db", 10)
	if _, archived := a.Taken(); archived == 0 {
		t.Error("the log service had to read the archive")
	}
}

// TestSwitchGap: an entry that is left out where the log service takes over is found by its
// sequence number, and read again; no page is wrong.
func TestSwitchGap(t *testing.T) {
	r, _ := farRig(t)
	r.opts.Source = &followed{Source: r.source, skip: 1}
	s := r.start()
	r.compare(s, "db", 20)
	if n := r.metric("source_violations_total"); n == 0 {
		t.Error("nobody noticed")
	}
}

// TestBadArchive: an archive that repeats, leaves out and turns back stops no log and makes no
// page wrong: the log service is followed.
func TestBadArchive(t *testing.T) {
	for name, mangle := range map[string]func(pageserver.Batch) []pageserver.Batch{
		"skips the last": func(b pageserver.Batch) []pageserver.Batch {
			return []pageserver.Batch{{Entries: b.Entries[:len(b.Entries)-1], Through: b.Through}}
		},
		"skips the first": func(b pageserver.Batch) []pageserver.Batch {
			return []pageserver.Batch{{Entries: b.Entries[1:], Through: b.Through}}
		},
		"twice":             func(b pageserver.Batch) []pageserver.Batch { return []pageserver.Batch{b, b} },
		"says there's none": func(b pageserver.Batch) []pageserver.Batch { return []pageserver.Batch{{Through: b.Through}} },
	} {
		t.Run(name, func(t *testing.T) {
			r, a := farRig(t)
			a.Mangle = func(_ string, b pageserver.Batch) []pageserver.Batch {
				if len(b.Entries) < 2 {
					return []pageserver.Batch{b}
				}
				return mangle(b)
			}
			s := r.start()
			r.compare(s, "db", 20)
			if st := statusOf(t, s.Server, "db", pageserver.StateFollowing); st.From != pageserver.FromLogService {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestForeignArchive: an archive of another history is not taken for this one's.
func TestForeignArchive(t *testing.T) {
	r, a := farRig(t)
	s := r.start()
	r.compare(s, "db", 2)
	s.Stop(t)
	_, archived := a.Taken()
	r.source.SetDown(errors.New("gone"))
	other := enginetest.NewSource(1) // as after a copy of its directory was put back
	other.Create("db")
	for _, tx := range enginetest.PagesHistory(r.rng, 600) {
		other.AppendTx("db", tx)
	}
	foreign := enginetest.NewArchive(other)
	foreign.Cover()
	r.opts.Archive = foreign
	at := r.source.Last()
	s = r.start()
	st := statusOf(t, s.Server, "db", pageserver.StateWaiting)
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if st = statusOf(t, s.Server, "db", pageserver.StateWaiting); strings.Contains(st.Reason, "another history") {
			break
		}
		if time.Since(begun) > wait {
			t.Fatalf("reason %q", st.Reason)
		}
	}
	if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
		t.Error(err)
	}
	if archived == 0 {
		t.Error("the run is void")
	}
}

// TestLogServiceDown: with the log service out of reach a page server serves what the archive
// holds, from an empty directory, and says so; what is newest it does not serve. Then it goes on.
func TestLogServiceDown(t *testing.T) {
	r := newRig(t, 200)
	a := enginetest.NewArchive(r.source)
	if _, err := r.source.CreateBranch(t.Context(), "db", "written", r.source.Last()/2); err != nil {
		t.Fatal(err)
	}
	r.append("written", 30)
	if _, err := r.source.CreateBranch(t.Context(), "db", "resting", r.source.Last()/3); err != nil {
		t.Fatal(err)
	}
	a.Cover()
	held := r.source.Last()
	r.append("db", 20)
	r.opts.Archive = a
	r.source.SetDown(errors.New("the log service is out of reach"))
	s := r.start()
	for _, log := range []string{"db", "written", "resting"} {
		for range 10 {
			at := 1 + logcore.LSN(r.rng.Uint64N(uint64(held)))
			if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, log, at, r.spaces); err != nil {
				t.Fatalf("%s at LSN %d: %v", log, at, err)
			}
		}
	}
	st := statusOf(t, s.Server, "db", pageserver.StateWaiting)
	for begun := time.Now(); !strings.Contains(st.Reason, "what the archive holds is served"); st = statusOf(t, s.Server, "db", pageserver.StateWaiting) {
		if time.Since(begun) > wait {
			t.Fatalf("reason %q", st.Reason)
		}
	}
	if st.From != pageserver.FromArchive || st.Ingested != held || !strings.Contains(st.Reason, "out of reach") {
		t.Errorf("%+v", st)
	}
	var lag *logcore.LagError
	for name, at := range map[string]pageserver.ReadAt{"the newest": {Wait: 100 * time.Millisecond}, "one that the archive lacks": {LSN: held + 1, Wait: 100 * time.Millisecond}} {
		if _, err := s.GetPages(t.Context(), "db", r.spaces[0], []uint32{0}, at); !errors.As(err, &lag) || lag.Available != held || !strings.Contains(err.Error(), "out of reach") {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries := r.source.Entries("db")
	middle := entries[len(entries)/2]
	if got, _, err := s.ResolveTime(t.Context(), "db", middle.Time.Wall(), wait); err != nil || got == 0 || got > held {
		t.Errorf("at a time: LSN %d, %v", got, err)
	}
	if _, _, err := s.ResolveTime(t.Context(), "db", time.Now().Add(time.Hour), time.Second); err == nil {
		t.Error("at a time that the log service may know more of")
	}
	if r.metric("log_service_up") != 0 || r.metric("archive_up") != 1 {
		t.Errorf("log service up: %v, archive up: %v", r.metric("log_service_up"), r.metric("archive_up"))
	}
	r.source.SetDown(nil)
	r.append("db", 5)
	r.compare(s, "db", 10)
	r.compare(s, "written", 5)
	if st := statusOf(t, s.Server, "db", pageserver.StateFollowing); st.From != pageserver.FromLogService {
		t.Errorf("%+v", st)
	}
	if r.metric("source_violations_total") != 0 || r.metric("incarnation_resets_total") != 0 {
		t.Error("violations, or pages thrown away")
	}
}

// TestRestoredWhileDown: what came from the archive of before a restore is thrown away when the
// restored log service is back.
func TestRestoredWhileDown(t *testing.T) {
	r, _ := farRig(t)
	r.source.SetDown(errors.New("gone"))
	s := r.start()
	statusOf(t, s.Server, "db", pageserver.StateWaiting)
	at := r.source.Last() / 3
	if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
		t.Fatal(err)
	}
	r.source.Restore(2, r.source.Last()/2)
	r.append("db", 60)
	r.spaces = enginetest.SpacesOf(t, r.source, pages.Decoder{}, "db")
	r.source.SetDown(nil)
	for range 20 {
		at := 1 + logcore.LSN(r.rng.Uint64N(uint64(r.source.Last())))
		set, err := s.GetPages(t.Context(), "db", r.spaces[0], []uint32{0}, pageserver.ReadAt{LSN: at, Wait: wait})
		if err != nil || set.Incarnation != 2 {
			t.Fatalf("at LSN %d: incarnation %d, %v", at, set.Incarnation, err)
		}
	}
	r.compare(s, "db", 20)
}

// TestArchiveUnreachable: it is said, and counts for nothing while the log service answers; with
// neither, what is there is served.
func TestArchiveUnreachable(t *testing.T) {
	r, a := farRig(t)
	r.opts.ArchiveCheckInterval = 5 * time.Millisecond
	a.SetDown(errors.New("no target answers"))
	s := r.start()
	r.compare(s, "db", 5)
	statusOf(t, s.Server, "db", pageserver.StateFollowing)
	said := func(up float64, contains string) {
		t.Helper()
		for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			st := s.ArchiveStatus()
			text := ""
			if st.Err != nil {
				text = st.Err.Error()
			}
			if st.Configured && !st.Checked.IsZero() && text == contains && r.metric("archive_up") == up {
				return
			}
			if time.Since(begun) > wait {
				t.Fatalf("%+v, up %v", st, r.metric("archive_up"))
			}
		}
	}
	said(0, "no target answers")
	at := r.source.Last()
	r.source.SetDown(errors.New("the log service is down"))
	st := statusOf(t, s.Server, "db", pageserver.StateWaiting)
	for begun := time.Now(); !strings.Contains(st.Reason, "no target answers") || !strings.Contains(st.Reason, "is down"); st = statusOf(t, s.Server, "db", pageserver.StateWaiting) {
		if time.Since(begun) > wait {
			t.Fatalf("reason %q", st.Reason)
		}
	}
	if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
		t.Errorf("what is there: %v", err)
	}
	a.SetDown(nil)
	said(1, "")
}

// TestReadsWhileCatchingUp: what is ingested already is served while the archive is read, after the log
// service was asked; the newest is not.
func TestReadsWhileCatchingUp(t *testing.T) {
	r, a := farRig(t)
	reached := make(chan struct{})
	release := make(chan struct{})
	half := r.source.Last() / 2
	a.Mangle = func(_ string, b pageserver.Batch) []pageserver.Batch {
		if b.Through > half {
			select {
			case <-reached:
			default:
				close(reached)
			}
			<-release
		}
		return []pageserver.Batch{b}
	}
	s := r.start()
	<-reached
	st := statusOf(t, s.Server, "db", pageserver.StateCatchingUp)
	if st.From != pageserver.FromArchive || st.Lag.Bytes == 0 || st.Lag.Time == 0 || r.metric("log_lag_bytes") == 0 || r.metric("lag_seconds") == 0 {
		t.Errorf("%+v", st)
	}
	for range 10 {
		at := 1 + logcore.LSN(r.rng.Uint64N(uint64(st.Ingested)))
		if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
			t.Fatalf("at LSN %d: %v", at, err)
		}
	}
	for _, at := range []pageserver.ReadAt{{Wait: 50 * time.Millisecond}, {LSN: r.source.Last(), Wait: 50 * time.Millisecond}} {
		if _, err := s.GetPages(t.Context(), "db", r.spaces[0], []uint32{0}, at); !errors.Is(err, logcore.ErrLSNInFuture) {
			t.Errorf("%+v: %v", at, err)
		}
	}
	// A log service that was put back from a copy meanwhile: none of it is told any more.
	ingested := st.Ingested
	r.source.Rollback(2)
	if _, err := s.GetPages(t.Context(), "db", r.spaces[0], []uint32{0}, pageserver.ReadAt{LSN: ingested, Wait: 200 * time.Millisecond}); err == nil {
		t.Error("pages of another history were served")
	}
	close(release)
}
