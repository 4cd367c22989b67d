package hotlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
)

// F12: no room from every operation on. Nothing acknowledged is lost, reads go on,
// and once there is room the log works again: without reopening it when nothing was
// written, after reopening it when a write had failed.
func TestF12FullAtEveryOperation(t *testing.T) {
	steps := figure(t, 60, 400)
	seed := faultSeed(t)
	reached, healedOpen := 0, 0
	for at := 0; ; at++ {
		full, poisoned, err := fullAt(seed, at, steps)
		if err != nil {
			t.Fatalf("full from operation %d: %v", at, err)
		}
		if !full {
			break
		}
		reached++
		if !poisoned {
			healedOpen++
		}
	}
	void(t, "operations", reached, 3*steps)
	t.Logf("full from each of %d operations on, %d times healed without reopening", reached, healedOpen)
}

// fullAt lets the disk be full from an operation on; full is false when the run has not so many.
func fullAt(seed uint64, at, steps int) (full, poisoned bool, err error) {
	w := newWorld(seed)
	w.disk.Hook = func(op simdisk.Op) error {
		if op.Index >= at && (op.Kind == "write" || op.Kind == "create" || op.Kind == "grow") {
			full = true
			return fmt.Errorf("injected: %w", logcore.ErrDiskFull)
		}
		return nil
	}
	err = w.open()
	for i := 0; err == nil && w.ackErrors == 0 && i < steps; i++ {
		err = w.step()
	}
	if !full {
		return false, false, errors.Join(err, w.log.Close())
	}
	if errors.Is(err, logcore.ErrInvalid) && w.ackErrors > 0 {
		err = nil // submitted behind entries that had failed meanwhile
	}
	if err != nil && !errors.Is(err, logcore.ErrDiskFull) {
		return true, false, fmt.Errorf("%w; want ErrDiskFull", err)
	}
	poisoned, err = w.heal()
	return true, poisoned, err
}

// F12: a tmpfs of 8 MiB.
func TestF12Tmpfs(t *testing.T) {
	at := t.TempDir()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("this test mounts a tmpfs and so must run as root, as make test does it: %v", err)
	}
	defer func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	fillAndHeal(t, filepath.Join(at, "log"), 3)
}

// fillAndHeal fills a small file system with a log: appends are refused in time, what is
// there is read, and a trim makes the log go on without reopening it, several times.
func fillAndHeal(t *testing.T, dir string, segmentsMin int) {
	t.Helper()
	opts := Options{Dir: dir, SegmentBytes: 1 << 20, CacheBytes: 1, DiskReserveBytes: 1 << 20, Logger: quiet()}
	l := mustOpen(t, opts)
	payload := func(lsn logcore.LSN) logcore.Entry { return entry(lsn, 5000) }
	sealed := map[logcore.LSN]bool{}
	same := func(from logcore.LSN) {
		t.Helper()
		for e, err := range l.Stream(StreamOptions{From: from}) {
			want := payload(from)
			if sealed[from] {
				want.Kind, want.Payload = logcore.KindSeal, nil
			}
			if err == nil {
				err = sameEntry(e, want)
			}
			if err != nil {
				t.Fatalf("LSN %d on a full disk: %v", from, err)
			}
			from++
		}
		if from != l.Last()+1 {
			t.Fatalf("reading ends at %d, the log at %d", from-1, l.Last())
		}
	}
	for round := range 4 {
		var err error
		begin := l.Last()
		for err == nil {
			e := payload(l.Last() + 1)
			if l.SealDue() {
				e.Kind, e.Payload = logcore.KindSeal, nil
				sealed[e.LSN] = true
			}
			err = l.Append(context.Background(), []logcore.Entry{e})
		}
		delete(sealed, l.Last()+1)
		if !errors.Is(err, logcore.ErrDiskFull) || l.Err() != nil {
			t.Fatalf("round %d: append to a full disk: %v; the log says %v", round, err, l.Err())
		}
		void(t, "entries", int(l.Last()-begin), 100)
		same(l.First())
		segments := l.Segments()
		void(t, "segments", len(segments), segmentsMin)
		if err := l.TrimHead(segments[len(segments)-2].Last); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := inspect.Check(context.Background(), inspect.CheckOptions{Dir: dir})
	if err != nil || len(report.Problems)+len(report.Rotten) != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
}

// heal checks that reads go on, gives the room back, and goes on.
func (w *world) heal() (poisoned bool, err error) {
	if w.log != nil {
		w.idle()
		if w.log.Err() == nil { // nothing of what failed was written
			w.entries = w.entries[:max(w.log.Last(), w.acked)]
		}
		if err := w.check(); err != nil {
			return false, fmt.Errorf("while full: %w", err)
		}
	}
	w.disk.Hook = nil
	if poisoned = w.log == nil || w.log.Err() != nil; poisoned {
		if w.log != nil {
			w.log.Close()
		}
		if err := w.compare(); err != nil {
			return poisoned, fmt.Errorf("reopen: %w", err)
		}
		w.entries = w.entries[:w.log.Last()]
	}
	w.ackErrors = 0
	w.firstMin, w.firstMax = 1, w.log.First()
	for range 20 {
		if err := w.step(); err != nil || w.ackErrors > 0 {
			return poisoned, fmt.Errorf("after it healed: %d failed, %v", w.ackErrors, err)
		}
	}
	if err := w.check(); err != nil {
		return poisoned, err
	}
	if err := w.verify(1); err != nil {
		return poisoned, err
	}
	return poisoned, w.log.Close()
}

// A disk that really fills up: appends are refused in good time, what is there can be
// read and sealed, and trimming makes room again.
func TestDiskFillsUp(t *testing.T) {
	ctx := context.Background()
	w := newWorld(1)
	w.disk.Capacity = 400 << 10 // six segments
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	var err error
	pressed := false
	for range 1000 {
		if used, limit := w.log.Pressure(); used >= limit {
			pressed = true
		}
		if err = w.log.Append(ctx, w.make(1, w.log.SealDue())); err != nil {
			break
		}
		w.acked = logcore.LSN(len(w.entries))
	}
	if !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("append to a full disk: %v", err)
	}
	if !pressed {
		t.Fatal("the disk was full before Pressure said so")
	}
	if w.log.Err() != nil {
		t.Fatalf("a full disk poisoned the log: %v", w.log.Err())
	}
	w.entries = w.entries[:w.log.Last()]
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	segs := w.log.Segments()
	if err := w.log.TrimHead(segs[1].Last); err != nil {
		t.Fatal(err)
	}
	w.firstMin, w.firstMax = segs[2].First, segs[2].First
	for range 20 {
		if err := w.log.Append(ctx, w.make(1, w.log.SealDue())); err != nil {
			t.Fatalf("append after a trim: %v", err)
		}
	}
	w.acked = logcore.LSN(len(w.entries))
	if err := w.verify(3); err != nil {
		t.Fatal(err)
	}
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
}

// A segment that passed its size can always be sealed, disk full or not: the room
// for it is never given to other entries.
func TestSealOnFullDisk(t *testing.T) {
	ctx := context.Background()
	w := newWorld(1)
	w.disk.Capacity = 72 << 10 // one segment and less than another
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{2000, 100, 0} { // until not even an empty entry fits
		var err error
		for err == nil {
			e := entry(w.log.Last()+1, size)
			if err = w.log.Append(ctx, []logcore.Entry{e}); err == nil {
				w.entries = append(w.entries, e)
			}
		}
		if !errors.Is(err, logcore.ErrDiskFull) {
			t.Fatal(err)
		}
	}
	w.acked = logcore.LSN(len(w.entries))
	if err := w.log.Append(ctx, w.make(1, true)); err != nil {
		t.Fatalf("seal on a full disk: %v", err)
	}
	w.acked++
	if segs := w.log.Segments(); len(segs) != 1 || !segs[0].Sealed {
		t.Fatalf("segments %+v", segs)
	}
	if err := w.log.Append(ctx, w.make(1, false)); !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("append without a segment: %v", err)
	}
	w.entries = w.entries[:w.acked]
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	var report RecoveryReport
	var err error
	if w.log, report, err = openOn(ctx, w.disk, w.opts, openMode{inline: true}); err != nil || !report.Clean || report.Proven != w.acked {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := errors.Join(w.check(), w.log.Close()); err != nil {
		t.Fatal(err)
	}
}
