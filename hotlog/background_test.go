package hotlog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

const sparseSegments, sparseBytes = 16, 128 << 20

// sparse makes a directory of 16 sealed segments of 128 MiB, which take no room because
// their frames are a hole, and an open one with real entries. Nothing but their
// headers, marks and footers is true.
func sparse(t *testing.T, tail []logcore.Entry) (dir string, footers int64) {
	t.Helper()
	dir = t.TempDir()
	h := segment.Header{ID: segment.ID{First: 1}}
	put := func(i int, parts map[int64][]byte) {
		f, err := os.Create(filepath.Join(dir, segName(uint64(i+1))))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for at, b := range parts {
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(sparseBytes); err != nil {
			t.Fatal(err)
		}
	}
	marks := func(m segment.Mark) map[int64][]byte {
		m.ID, m.Reach = h.ID, sparseBytes
		m.Seq++
		second := m
		second.Seq++
		return map[int64][]byte{0: h.Append(nil), segment.MarkSlotOffset(m.Seq): m.Append(nil), segment.MarkSlotOffset(second.Seq): second.Append(nil)}
	}
	for i := range sparseSegments {
		const each = 1000
		s := segment.NewSummary(h)
		s.Last, s.Entries, s.Sum, s.End = h.ID.First+each-1, each, uint32(i+77), sparseBytes-sparseBytes/8
		s.FirstTime, s.LastTime = logcore.HLC(h.ID.First)<<16, logcore.HLC(s.Last)<<16
		for n := range logcore.LSN(each) {
			s.Points = append(s.Points, segment.Point{LSN: h.ID.First + n, Time: s.FirstTime, Offset: segment.FramesOffset + int64(n)*8, Prev: s.Prev})
		}
		footer := s.AppendFooter(nil)
		footers += int64(len(footer))
		parts := marks(segment.Mark{State: segment.StateSealed, LSN: s.Last, End: s.End, Sum: s.Sum, Clean: true})
		parts[s.End] = footer
		put(i, parts)
		h = segment.Header{ID: segment.ID{First: s.Last + 1}, Prev: s.Sum, PrevTerm: 1}
	}
	var frames []byte
	sum := h.Prev
	for i, e := range tail {
		e.LSN = h.ID.First + logcore.LSN(i)
		frames, sum = segment.AppendFrame(frames, h.ID, sum, e)
	}
	parts := marks(segment.Mark{State: segment.StateOpen, LSN: h.ID.First - 1, End: segment.FramesOffset, Sum: h.Prev})
	parts[segment.FramesOffset] = frames
	put(sparseSegments, parts)
	return dir, footers
}

// What is read before the first append are the headers, the footers and the open tail,
// however much is sealed: 2 GiB here.
func TestOpenReadsTheTailOnly(t *testing.T) {
	var tail []logcore.Entry
	for i := range 50 {
		tail = append(tail, entry(logcore.LSN(i+1), 3000))
	}
	path, footers := sparse(t, tail)
	dir, err := media.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts := testOptions(path)
	opts.SegmentBytes, opts.DiskReserveBytes = sparseBytes, 1
	if opts, err = opts.withDefaults(); err != nil {
		t.Fatal(err)
	}
	counting := countingDir{dir, new(atomic.Int64)}
	l, report, err := openOn(context.Background(), counting, opts, openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const sealed = sparseSegments * 1000
	mustAppend(t, l, entry(sealed+51, 100))
	tailBytes := 50 * segment.FrameBytes(3000)
	if report.Segments != sparseSegments+1 || report.Last != sealed+50 || report.ScannedBytes != tailBytes {
		t.Fatalf("report %+v", report)
	}
	// The tail is read three times at most: to check it, to write it again, for its last term.
	most := (sparseSegments+1)*segment.FramesOffset + footers + sparseSegments*32 + 3*tailBytes + 64<<10
	if got := counting.read.Load(); got > most || got < footers+tailBytes {
		t.Fatalf("read %d bytes before the first append, want at most %d of %d", got, most, sparseSegments*sparseBytes)
	}
}

// found collects what OnDamage is told.
type found struct {
	mu   sync.Mutex
	list []*logcore.CorruptionError
	ch   chan struct{}
}

func newFound() *found { return &found{ch: make(chan struct{}, 100)} }

func (f *found) add(c *logcore.CorruptionError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, c)
	f.ch <- struct{}{}
}

func (f *found) wait(t *testing.T, n int) []*logcore.CorruptionError {
	t.Helper()
	for range n {
		select {
		case <-f.ch:
		case <-time.After(time.Minute):
			t.Fatalf("told of %v only", f.list)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// The check in the background finds every segment whose footer promises entries that are
// not there, while the log is in use.
func TestBackgroundCheckFinds(t *testing.T) {
	path, _ := sparse(t, []logcore.Entry{entry(1, 100)})
	opts, told := testOptions(path), newFound()
	opts.SegmentBytes, opts.DiskReserveBytes, opts.OnDamage = sparseBytes, 1<<60, told.add
	opts.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})
	l := mustOpen(t, opts)
	mustAppend(t, l, entry(l.Last()+1, 100))
	names := map[string]bool{}
	for _, c := range told.wait(t, sparseSegments) {
		names[c.Object] = true
		if c.Place != path || c.Offset != segment.FramesOffset || c.LSN%1000 != 1 {
			t.Fatalf("place %+v", c)
		}
	}
	if len(names) != sparseSegments || value(t, opts.Corruptions) != sparseSegments {
		t.Fatalf("%d segments, %v counted", len(names), value(t, opts.Corruptions))
	}
	mustAppend(t, l, entry(l.Last()+1, 100))
}

// Rot in a sealed segment is found in the background and repaired from a good copy while
// the log is in use; after a reopen nothing is left of it.
func TestRepairWhileOpen(t *testing.T) {
	o := testOptions(t.TempDir())
	o.LogOf = logOf
	l := mustOpen(t, o)
	fill(t, l, 100, 40, 10)
	good, err := l.Span(41, 80)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := segdir.Load(mustDir(t, o.Dir))
	if err != nil {
		t.Fatal(err)
	}
	name := c.Live[1].Name
	c.CloseFiles()
	file := filepath.Join(o.Dir, name)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rotten := slices.Clone(before)
	rotten[segment.FramesOffset+5000] ^= 8
	if err := os.WriteFile(file, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	told := newFound()
	o.OnDamage = told.add
	l = mustOpen(t, o)
	if c := told.wait(t, 1)[0]; c.Object != name || c.LSN <= 41 || c.LSN >= 80 {
		t.Fatalf("told %+v", c)
	}
	if _, err := l.Entries(41, 81, 1<<20); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("read of a rotten segment: %v", err)
	}
	for what, change := range map[string]func(s *segment.Span){
		"part":   func(s *segment.Span) { s.Last-- },
		"other":  func(s *segment.Span) { s.Sum++ },
		"open":   func(s *segment.Span) { s.Sealed = false },
		"newest": func(s *segment.Span) { s.ID.First, s.First, s.Last = 81, 81, 100 },
	} {
		bad := good
		if change(&bad); !errors.Is(l.Repair(bad), logcore.ErrInvalid) {
			t.Fatalf("repaired with a span changed: %s", what)
		}
	}
	bad := good
	bad.Frames = slices.Clone(good.Frames)
	bad.Frames[777] ^= 1
	if err := l.Repair(bad); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("repaired with a rotten span: %v", err)
	}
	if err := l.Repair(good); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(file + ".corrupt"); err != nil || !slices.Equal(kept[segment.FramesOffset:], rotten[segment.FramesOffset:]) {
		t.Errorf("the damaged file is not kept as it was: %v", err)
	}
	mustAppend(t, l, entry(101, 50))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before[segment.FramesOffset:], after[segment.FramesOffset:]) {
		t.Error("frames and footer are not the same bytes as before")
	}
	report, err := inspect.Check(context.Background(), inspect.CheckOptions{Dir: o.Dir, LogOf: logOf})
	if err != nil || len(report.Problems)+len(report.Rotten)+len(report.Notes) != 0 || report.Last != 101 {
		t.Fatalf("%+v, %v", report, err)
	}
}

// creating calls a function when a file is created.
type creating struct {
	media.Dir
	then func(name string)
}

func (d *creating) Create(name string, size int64) (media.File, error) {
	if d.then != nil {
		d.then(name)
	}
	return d.Dir.Create(name, size)
}

// The tail is cut under a repair of the segment that becomes the last one by it: the
// repair gives way, and the log goes on where it was cut.
func TestRepairGivesWayToTruncation(t *testing.T) {
	opts := simOptions()
	dir := &creating{Dir: simdisk.New(1)}
	l, _, err := openOn(context.Background(), dir, opts, openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 100, 40, 10)
	span, err := l.Span(41, 80)
	if err != nil {
		t.Fatal(err)
	}
	dir.then = func(string) {
		dir.then = nil
		if err := l.TruncateTail(60); err != nil {
			t.Error(err)
		}
	}
	if err := l.Repair(span); !errors.Is(err, errGone) {
		t.Errorf("repair of a segment that was cut meanwhile: %v", err)
	}
	mustAppend(t, l, entry(61, 10))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := inspect.CheckOn(context.Background(), dir, inspect.CheckOptions{LogOf: logOf})
	if err != nil || len(report.Problems)+len(report.Rotten) != 0 || report.Last != 61 {
		t.Errorf("%+v, %v", report, err)
	}
}

// Close waits for a repair under way: afterwards nothing of the log touches the
// directory, which another process may have taken.
func TestCloseWaitsForRepair(t *testing.T) {
	dir := &creating{Dir: simdisk.New(1)}
	l, _, err := openOn(context.Background(), dir, simOptions(), openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 100, 40, 10)
	span, err := l.Span(41, 80)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	dir.then = func(string) {
		dir.then = nil
		go func() { closed <- l.Close() }()
		<-l.done
		for range 100 { // as long as it may take a Close that does not wait
			if len(*l.view.Load()) == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	if err := l.Repair(span); err != nil {
		t.Errorf("a repair under way when the log was closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := l.Repair(span); !errors.Is(err, logcore.ErrClosed) {
		t.Errorf("repair of a closed log: %v", err)
	}
	report, err := inspect.CheckOn(context.Background(), dir, inspect.CheckOptions{LogOf: logOf})
	if err != nil || len(report.Problems)+len(report.Rotten) != 0 || report.Last != 100 {
		t.Errorf("%+v, %v", report, err)
	}
}

func mustDir(t *testing.T, path string) media.Dir {
	t.Helper()
	d, err := media.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
