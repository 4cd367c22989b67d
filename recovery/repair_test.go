package recovery_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// copyDir copies the files of a flat directory.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// segmentOf is a segment file and where its entries end.
type segmentOf struct {
	path   string
	first  logcore.LSN
	end    int64
	sealed bool
}

func segmentsOf(t *testing.T, dir string) (list []segmentOf) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := f.Stat()
		block := make([]byte, segment.FramesOffset)
		f.ReadAt(block, 0)
		if id, err := segment.Identify(block); err == nil && id.State != segment.StateFree {
			h := id.Header
			frames := segment.NewReader(f, h.ID, segment.Point{LSN: h.ID.First, Offset: segment.FramesOffset, Prev: h.Prev}, info.Size())
			kind := logcore.KindRaft
			for err == nil {
				var e logcore.Entry
				if e, _, err = frames.Next(); err == nil {
					kind = e.Kind
				}
			}
			list = append(list, segmentOf{path, h.ID.First, frames.Offset(), kind == logcore.KindSeal})
		}
		f.Close()
	}
	slices.SortFunc(list, func(a, b segmentOf) int { return int(a.first) - int(b.first) })
	return list
}

func flip(t *testing.T, path string, offset int64, bit int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

func (w *world) repair(dir string) (recovery.RepairReport, error) {
	opts := w.options("unused")
	return recovery.RepairHotLog(ctx, recovery.RepairOptions{Dir: dir, Logger: quiet(), Archive: func(ctx context.Context) (*tiering.Reader, error) {
		return tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: opts.Targets, Keys: opts.Keys, Logger: quiet()})
	}})
}

// newDamagedWorld has sealed segments and an open one, all archived but the last entries.
func newDamagedWorld(t *testing.T) (w *world, dir string) {
	t.Helper()
	w = newWorld(t)
	w.maxAge = time.Hour // nothing is archived that is not flushed or sealed
	w.start(w.dir, w.urls)
	w.write("orders", 40, 80<<10)
	w.flush()
	w.write("orders", 3, 3000) // the open segment holds entries that the archive has not got yet
	w.stop()
	return w, recovery.ShardDir(w.dir, 0)
}

// A flipped bit anywhere in a sealed or an open segment that the archive covers is
// repaired: every entry is there again, byte for byte, and the log opens.
func TestRepairFlips(t *testing.T) {
	w, dir := newDamagedWorld(t)
	covered := w.written[39].at.LSN
	want := dump(t, dir)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	segments := segmentsOf(t, dir)
	if len(segments) < 3 || segments[len(segments)-1].sealed {
		t.Fatalf("segments %+v: want some sealed ones and an open one", segments)
	}
	work := filepath.Join(w.root, "work")
	for n := range 40 {
		copyDir(t, dir, work)
		s := segments[n%len(segments)]
		to := s.end
		if !s.sealed {
			to = offsetOf(t, s, covered)
		}
		var offset int64
		switch n / len(segments) % 3 {
		case 0: // a frame
			offset = segment.FramesOffset + rng.Int64N(to-segment.FramesOffset)
		case 1: // the header
			offset = rng.Int64N(segment.BlockBytes)
		default: // a mark
			offset = segment.MarkOffset + rng.Int64N(2*segment.BlockBytes)
		}
		path, bit := filepath.Join(work, filepath.Base(s.path)), rng.IntN(8)
		flip(t, path, offset, bit)
		report, err := w.repair(work)
		if errors.Is(err, logcore.ErrUnsupportedVersion) {
			continue // a flip in a version field: refused, as it must be
		}
		if err != nil || len(report.Damage) == 0 {
			t.Fatalf("flip %d, bit %d of byte %d of %s: %v, report %+v", n, bit, offset, path, err, report)
		}
		if got := dump(t, work); !slices.Equal(got, want) {
			t.Fatalf("flip %d, bit %d of byte %d of %s: %d entries after the repair, want %d", n, bit, offset, path, len(got), len(want))
		}
		l, opened, err := hotlog.Open(ctx, hotlog.Options{Dir: work, SegmentBytes: 1 << 20, DiskReserveBytes: 1, Logger: quiet()})
		if err != nil || opened.Last != logcore.LSN(len(want)) {
			t.Fatalf("flip %d: opened with %+v, %v", n, opened, err)
		}
		l.Close()
	}
}

// offsetOf returns where the entry of an LSN ends.
func offsetOf(t *testing.T, s segmentOf, lsn logcore.LSN) int64 {
	t.Helper()
	f, err := os.Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, segment.BlockBytes)
	f.ReadAt(block, 0)
	h, err := segment.DecodeHeader(block)
	if err != nil {
		t.Fatal(err)
	}
	r := segment.NewReader(f, h.ID, segment.Point{LSN: h.ID.First, Offset: segment.FramesOffset, Prev: h.Prev}, s.end)
	for r.NextLSN() <= lsn {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	return r.Offset()
}

// What the archive does not have is refused and left as it is, never cut.
func TestRepairRefusesWhatNobodyHas(t *testing.T) {
	w, dir := newDamagedWorld(t)
	segments := segmentsOf(t, dir)
	open := segments[len(segments)-1]
	opts := w.options("unused")
	reader, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: opts.Targets, Keys: opts.Keys, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	from := offsetOf(t, open, reader.Covered())
	if from >= open.end {
		t.Fatalf("the archive covers LSN %d: want some entries that it has not got", reader.Covered())
	}
	flip(t, open.path, from+30, 2)
	before, err := os.ReadFile(open.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.repair(dir); !errors.Is(err, logcore.ErrCorrupt) || !strings.Contains(err.Error(), "nothing holds these entries") {
		t.Errorf("repair: %v", err)
	}
	if after, err := os.ReadFile(open.path); err != nil || !slices.Equal(before, after) {
		t.Errorf("the file changed, %v", err)
	}
	if _, _, err := hotlog.Open(ctx, hotlog.Options{Dir: dir, SegmentBytes: 1 << 20, DiskReserveBytes: 1, Logger: quiet()}); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("the damaged log opened: %v", err)
	}
}

// The service repairs its hot log by itself, counts it, and keeps the damaged files. Until
// a segment is repaired nobody gets its bytes.
func TestServiceRepairsItself(t *testing.T) {
	w, dir := newDamagedWorld(t)
	segments := segmentsOf(t, dir)
	flip(t, segments[0].path, segment.FramesOffset+1000, 1)
	flip(t, segments[1].path, segment.FramesOffset+5000, 7)
	w.start(w.dir, w.urls)
	kept := func() bool {
		_, err0 := os.Stat(segments[0].path + ".corrupt")
		_, err1 := os.Stat(segments[1].path + ".corrupt")
		return err0 == nil && err1 == nil
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		st, err := w.client.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if st.Healthy && st.Corruptions >= 2 && kept() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %+v: want 2 corruptions, repaired", st)
		}
	}
	w.check(1 << 62)
}
