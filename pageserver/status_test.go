package pageserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/pageserver"
)

// statusOf waits until a log is in a state, and returns what the page server says of it.
func statusOf(t *testing.T, s *pageserver.Server, log, state string) pageserver.LogStatus {
	t.Helper()
	var all []pageserver.LogStatus
	var err error
	for begun := time.Now(); time.Since(begun) < wait; time.Sleep(5 * time.Millisecond) {
		if all, err = s.Status(log); err == nil && len(all) == 1 && all[0].State == state {
			return all[0]
		}
	}
	t.Fatalf("log %s is %+v (%v), want it %s", log, all, err, state)
	return pageserver.LogStatus{}
}

// TestQuarantine: a log with an entry that can't be decoded stops before it, and says so;
// what was before it is served, and the other logs go on.
func TestQuarantine(t *testing.T) {
	r := newRig(t, 10)
	r.source.Create("other")
	r.opts.Keeper = r.source
	s := r.start()
	good := appendRecords(t, r.source, "db", image(engine.SpaceOf(77), 0, 'g'))
	r.source.AppendTx("db", enginetest.Transaction{Parts: [][]byte{[]byte("no payload of pages")}})
	st := statusOf(t, s.Server, "db", pageserver.StateQuarantined)
	if st.Reason == "" || st.Ingested < good {
		t.Errorf("%+v", st)
	}
	set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(77), []uint32{0}, pageserver.ReadAt{LSN: good, Wait: wait})
	if err != nil || len(set.Pages[0].Data) != 64 {
		t.Errorf("before the entry: %+v, %v", set, err)
	}
	last := appendRecords(t, r.source, "other", image(engine.SpaceOf(77), 0, 'o'))
	if _, err := s.WaitLSN(t.Context(), "other", pageserver.ReadAt{LSN: last, Wait: wait}); err != nil {
		t.Errorf("the other log: %v", err)
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if rep, ok := r.source.Reported("db"); ok && rep.Stopped != "" {
			break
		}
		if time.Since(begun) > wait {
			t.Fatal("the log service was not told")
		}
	}
}

// TestSourceUnreachable: what is there is served, and who wants more is told why it can't be had.
func TestSourceUnreachable(t *testing.T) {
	r := newRig(t, 30)
	s := r.start()
	r.compare(s, "db", 2)
	last := r.source.Last()
	r.source.SetDown(errors.New("the archive is out of reach"))
	st := statusOf(t, s.Server, "db", pageserver.StateWaiting)
	for begun := time.Now(); !strings.Contains(st.Reason, "out of reach"); st = statusOf(t, s.Server, "db", pageserver.StateWaiting) {
		if time.Since(begun) > wait {
			t.Fatalf("reason %q", st.Reason)
		}
	}
	if _, err := s.GetPages(t.Context(), "db", r.spaces[0], []uint32{0}, pageserver.ReadAt{LSN: last, Wait: wait}); err != nil {
		t.Errorf("at an LSN that is there: %v", err)
	}
	var lag *logcore.LagError
	_, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: last + 1, Wait: 50 * time.Millisecond})
	if !errors.As(err, &lag) || !strings.Contains(err.Error(), "out of reach") {
		t.Errorf("at one that is not: %v", err)
	}
	r.source.SetDown(nil)
	statusOf(t, s.Server, "db", pageserver.StateFollowing)
	r.compare(s, "db", 2)
}

// TestBelowTheWindow: typed, and the same for branches below their fork.
func TestBelowTheWindow(t *testing.T) {
	r := newRig(t, 0)
	r.opts.Keeper, r.opts.CollectInterval = r.source, 5*time.Millisecond
	s := r.start()
	space := engine.SpaceOf(1)
	var at []logcore.LSN
	between := time.UnixMilli(1_700_000_000_000).Add(13 * time.Millisecond) // two appends take the source's clock a millisecond
	for i := range 60 {
		at = append(at, appendRecords(t, r.source, "db", image(space, 0, byte(i))))
	}
	if got, _, err := s.ResolveTime(t.Context(), "db", between, wait); err != nil || got <= at[21] || got >= at[30] {
		t.Fatalf("before the window moved: LSN %d, %v, want one between %d and %d", got, err, at[21], at[30])
	}
	if _, _, err := s.CreateBranch(t.Context(), "db", "b", pageserver.ReadAt{LSN: at[20], Wait: wait}); err != nil {
		t.Fatal(err)
	}
	r.source.SetWindow("db", 5*time.Millisecond, 0)
	get := func(log string, at logcore.LSN) (byte, error) {
		set, err := s.GetPages(t.Context(), log, space, []uint32{0, 1 << 20}, pageserver.ReadAt{LSN: at, Wait: wait})
		if err != nil {
			return 0, err
		}
		if len(set.Pages[1].Data) != 0 {
			t.Error("a page beyond the space")
		}
		return set.Pages[0].Data[0], nil
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := get("db", at[10]); errors.Is(err, logcore.ErrTrimmed) {
			break
		}
		if time.Since(begun) > wait {
			t.Fatal("the window does not move")
		}
	}
	for log, want := range map[string]map[int]error{"db": {19: logcore.ErrTrimmed, 20: nil, 21: logcore.ErrTrimmed, 59: nil}, "b": {19: logcore.ErrTrimmed, 20: nil}} {
		for i, want := range want {
			if got, err := get(log, at[i]); !errors.Is(err, want) || err == nil && got != byte(i) {
				t.Errorf("%s at the %dth: %d, %v, want %v", log, i, got, err, want)
			}
		}
	}
	if _, _, err := s.CreateBranch(t.Context(), "db", "late", pageserver.ReadAt{LSN: at[10], Wait: wait}); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("a branch below the window: %v", err)
	}
	// The newest change at or before that time may be gone; the one before it, which the branch
	// keeps, is not the answer. That a branch sees up to where it forks is known.
	if got, _, err := s.ResolveTime(t.Context(), "db", between, wait); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("a time below the window: LSN %d, %v", got, err)
	}
	for log, want := range map[string]logcore.LSN{"b": at[20], "db": at[59]} {
		if got, _, err := s.ResolveTime(t.Context(), log, time.Now(), wait); err != nil || got != want {
			t.Errorf("%s now: LSN %d, %v, want %d", log, got, err, want)
		}
	}
	// A restart, with nobody there to ask, knows what it has removed.
	for begun := time.Now(); r.metric("collected_keys_total") == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > wait {
			t.Fatal("nothing was collected")
		}
	}
	s.Stop(t)
	r.source.SetDown(errors.New("out of reach"))
	s = r.start()
	if _, err := get("db", at[10]); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("after a restart: %v", err)
	}
}

// TestSpaceIsGivenBack: what was removed no longer takes the disk.
func TestSpaceIsGivenBack(t *testing.T) {
	r := newRig(t, 0)
	r.opts.Keeper, r.opts.CollectInterval = r.source, 20*time.Millisecond
	s := r.start()
	var last logcore.LSN
	for i := range 3000 {
		page := make([]byte, 1024)
		for j := range page {
			page[j] = byte(r.rng.Uint32())
		}
		page[0] = byte(i)
		last = appendRecords(t, r.source, "db", engine.Record{Space: engine.SpaceOf(1), Op: engine.OpImage, Page: uint32(i % 10), PageSize: 1024, Data: page})
	}
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: last, Wait: wait}); err != nil {
		t.Fatal(err)
	}
	before := statusOf(t, s.Server, "db", pageserver.StateFollowing)
	r.source.SetWindow("db", time.Millisecond, 0)
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		after := statusOf(t, s.Server, "db", pageserver.StateFollowing)
		if after.Use.Versions > 0 && after.Use.Versions < 100 && after.DiskBytes < before.DiskBytes/4 {
			if after.Use.LogicalBytes != 10*1024 || after.Use.VersionBytes < 10*1024 || after.Use.VersionBytes > 100*1100 {
				t.Errorf("%+v", after.Use)
			}
			return
		}
		if time.Since(begun) > wait {
			t.Fatalf("before %+v\nafter %+v", before, after)
		}
	}
}

// TestRestingBranchesCostNothing: no goroutine, no stream, and they are served all the same.
func TestRestingBranchesCostNothing(t *testing.T) {
	r := newRig(t, 20)
	s := r.start()
	r.compare(s, "db", 1)
	before := runtime.NumGoroutine()
	for i := range 300 {
		if _, _, err := s.CreateBranch(t.Context(), "db", fmt.Sprintf("b%d", i), pageserver.ReadAt{LSN: r.source.Last() / 2, Wait: wait}); err != nil {
			t.Fatal(err)
		}
	}
	r.compare(s, "b7", 3)
	if n := runtime.NumGoroutine() - before; n > 30 {
		t.Errorf("%d goroutines more for 300 branches", n)
	}
	statusOf(t, s.Server, "b8", pageserver.StateResting)
	// One that is written is followed, whoever asks; and rests again.
	r.append("b9", 5)
	r.compare(s, "b9", 3)
	r.source.CloseWriter("b9")
	statusOf(t, s.Server, "b9", pageserver.StateResting)
	r.compare(s, "b9", 3)
	if !r.source.DeleteBranch("b10") {
		t.Fatal("not deleted")
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if all, _ := s.Status("b10"); len(all) == 0 {
			break
		}
		if time.Since(begun) > wait {
			t.Fatal("a deleted branch stays")
		}
	}
	if _, err := s.GetPages(t.Context(), "b10", r.spaces[0], []uint32{0}, pageserver.ReadAt{}); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("a deleted branch: %v", err)
	}
}

// TestFullDisk: ingest waits and says so, reads go on, and it goes on by itself when there is
// room (F12).
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "48m")
	r := newRig(t, 20)
	r.opts.Dir, r.opts.DiskReserveBytes = filepath.Join(dir, "pages"), 16<<20
	s := r.start()
	r.compare(s, "db", 2)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 36<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	at := r.source.Last()
	st := statusOf(t, s.Server, "db", pageserver.StateDiskFull)
	if !strings.Contains(st.Reason, "ingest waits") {
		t.Errorf("reason %q", st.Reason)
	}
	r.append("db", 200)
	if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces); err != nil {
		t.Errorf("reads while the disk is full: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.WaitLSN(ctx, "db", pageserver.ReadAt{LSN: r.source.Last(), Wait: 20 * time.Millisecond}); err == nil {
		t.Error("ingested on a full disk: the run is void")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.compare(s, "db", 5)
	statusOf(t, s.Server, "db", pageserver.StateFollowing)
}

// fill writes a file until a disk has not a byte left, and returns what removes it.
func fill(t *testing.T, path string) (empty func()) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for n := len(chunk); n > 0; {
		_, err := f.Write(chunk[:n])
		switch {
		case err == nil:
			n = min(2*n, len(chunk)) // somebody may have made room
		case errors.Is(err, syscall.ENOSPC):
			n /= 2
		default:
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// smallDisk mounts a disk of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a tmpfs (make test runs the tests where they may): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullToTheLastByte: with not a byte left, taken by somebody else between two entries, what is
// in memory can't be flushed: reads go on all the same, the process lives, and all is well when there is
// room again, and after a restart.
func TestFullToTheLastByte(t *testing.T) {
	dir := smallDisk(t, "24m")
	r := newRig(t, 100)
	r.opts.Dir, r.opts.DiskReserveBytes = filepath.Join(dir, "pages"), 4<<20
	r.source.BatchEntries = 2
	s := r.start()
	r.compare(s, "db", 2)
	for round := range 4 {
		at := r.source.Last()
		r.append("db", 60) // being ingested while the disk fills
		empty := fill(t, filepath.Join(dir, "ballast"))
		statusOf(t, s.Server, "db", pageserver.StateDiskFull)
		for range 2 {
			if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", 1+logcore.LSN(r.rng.Uint64N(uint64(at))), r.spaces); err != nil {
				t.Fatalf("round %d, reads while the disk is full: %v", round, err)
			}
		}
		empty()
		r.spaces = enginetest.SpacesOf(t, r.source, pages.Decoder{}, "db")
		r.compare(s, "db", 2)
		statusOf(t, s.Server, "db", pageserver.StateFollowing)
	}
	if n := r.metric("store_rebuilds_total"); n != 0 || value(r.corruptions) != 0 {
		t.Errorf("%v rebuilds, %v corruptions", n, value(r.corruptions))
	}
	s.Stop(t)
	// Closed while it is full: what was not flushed comes from the log again.
	raw, err := pageserver.Open(r.opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- raw.Run(ctx) }()
	r.append("db", 60)
	empty := fill(t, filepath.Join(dir, "ballast"))
	stop()
	if err := patience.Receive(t, "the page server stops", ran); err != nil {
		t.Error(err)
	}
	if err := patience.Return(t, "the page server closes", raw.Close); err != nil && !errors.Is(err, logcore.ErrDiskFull) && !strings.Contains(err.Error(), "no space left") {
		t.Errorf("close: %v", err)
	}
	empty()
	r.spaces = enginetest.SpacesOf(t, r.source, pages.Decoder{}, "db")
	s = r.start()
	r.compare(s, "db", 5)
}

// TestConfirmedWhileFull: a log that is followed anew while memory can't be written is confirmed all the
// same, and what is there of it read.
func TestConfirmedWhileFull(t *testing.T) {
	r := newRig(t, 20)
	r.opts.FlushInterval = time.Hour
	s := r.start()
	r.compare(s, "db", 2)
	r.source.SetDown(errors.New("down"))
	statusOf(t, s.Server, "db", pageserver.StateWaiting)
	pageserver.Flushed(s.Server, syscall.ENOSPC)
	r.source.SetDown(nil)
	statusOf(t, s.Server, "db", pageserver.StateDiskFull)
	r.compare(s, "db", 3)
	pageserver.Flushed(s.Server, nil)
	r.append("db", 20)
	r.spaces = enginetest.SpacesOf(t, r.source, pages.Decoder{}, "db")
	r.compare(s, "db", 3)
}

// TestOpenedWhileFull: a page server that starts on a full disk says so in a bounded time, and what it has is
// neither called damaged nor put aside.
func TestOpenedWhileFull(t *testing.T) {
	dir := smallDisk(t, "24m")
	r := newRig(t, 100)
	r.opts.Dir, r.opts.DiskReserveBytes = filepath.Join(dir, "pages"), 4<<20
	s := r.start()
	r.compare(s, "db", 2)
	s.Stop(t)
	empty := fill(t, filepath.Join(dir, "ballast"))
	for range 3 {
		opened, err := pageserver.Open(r.opts)
		if err == nil {
			err = opened.Close()
		}
		if err != nil && !errors.Is(err, logcore.ErrDiskFull) {
			t.Fatalf("opened while the disk is full: %v", err)
		}
	}
	empty()
	s = r.start()
	if n := r.metric("store_rebuilds_total"); n != 0 || value(r.corruptions) != 0 {
		t.Errorf("%v rebuilds, %v corruptions", n, value(r.corruptions))
	}
	if _, err := os.Stat(filepath.Join(r.opts.Dir, "store.damaged")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the store was put aside: %v", err)
	}
	r.compare(s, "db", 5)
}
