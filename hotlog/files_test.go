package hotlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// openCounter counts the files that are open.
type openCounter struct {
	media.Dir
	mu        sync.Mutex
	now, most int
}

type countedFile struct {
	media.File
	d *openCounter
}

func (d *openCounter) count(f media.File, err error) (media.File, error) {
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now++
	d.most = max(d.most, d.now)
	return &countedFile{f, d}, nil
}

func (d *openCounter) Open(name string) (media.File, error) { return d.count(d.Dir.Open(name)) }
func (d *openCounter) Create(name string, size int64) (media.File, error) {
	return d.count(d.Dir.Create(name, size))
}

func (f *countedFile) Close() error {
	f.d.mu.Lock()
	f.d.now--
	f.d.mu.Unlock()
	return f.File.Close()
}

// However many segments there are and whoever reads them, few files are open, and none
// is left open by Close.
func TestFewFilesAreOpen(t *testing.T) {
	dir := &openCounter{Dir: simdisk.New(1)}
	opts := simOptions()
	opts.CacheBytes = 1
	for round := range 2 {
		l, _, err := openOn(context.Background(), dir, opts, openMode{})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			fill(t, l, 1000, 5, 10) // 200 segments
		}
		rng := rand.New(rand.NewPCG(1, uint64(round)))
		var readers sync.WaitGroup
		for range 4 {
			seed := rng.Uint64()
			readers.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 1))
				for range 500 {
					lsn := 1 + logcore.LSN(rng.IntN(1000))
					got, err := l.Entries(lsn, lsn+1, 1)
					if err != nil || sameEntry(got[0], sealAt(entry(lsn, 300+int(lsn%50)), 5)) != nil {
						t.Errorf("LSN %d: %v", lsn, err)
						return
					}
				}
			})
		}
		readers.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if most := segdir.OpenFilesMax + 4 + 16; dir.most > most || dir.now != 0 {
			t.Fatalf("%d files were open at a time, %d are after Close; want at most %d and 0", dir.most, dir.now, most)
		}
	}
}

// A reader that looks at a segment whose file was trimmed and taken for another one never
// sees an entry of the other: it is told that the segment is gone, and even one that
// reads the file regardless finds no frame that passes in it.
func TestRecycledFileIsNotRead(t *testing.T) {
	l, _, err := openOn(context.Background(), simdisk.New(1), simOptions(), openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fill(t, l, 100, 10, 300)
	old := (*l.view.Load())[0]
	src, c := l.reader(old)
	if err := l.TrimHead(50); err != nil {
		t.Fatal(err)
	}
	before := l.Last()
	fill(t, l, before+200, 10, 300)
	recycled := false
	for _, s := range *l.view.Load() {
		recycled = recycled || s.f == old.f
	}
	if !recycled {
		t.Fatal("void: the file was not taken for another segment")
	}
	if _, err := src.ReadAt(make([]byte, 100), segment.FramesOffset); !errors.Is(err, errGone) {
		t.Fatalf("read of a trimmed segment: %v", err)
	}
	frames := segment.NewReader(old.f, old.header.ID, old.header.Start(), c.end)
	if e, _, err := frames.Next(); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("LSN %d passed in a recycled file: %v", e.LSN, err)
	}
}

const (
	fewFilesLimit = 64
	fewFiles      = 300 // segments of 1 MiB
)

// A process that may open 64 files has a log of 300 segments and reads all of it; without
// any descriptor left, reads fail with an error that says so, appends go on or are refused,
// the log is not poisoned, and all of it works as soon as there are some.
func TestFileDescriptorsRunOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	cmd := childCommand("few-files", dir)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "few files: passed") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// withFewFiles is the process of TestFileDescriptorsRunOut.
func withFewFiles(dir string) error {
	limit := syscall.Rlimit{Cur: fewFilesLimit, Max: fewFilesLimit}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	ctx := context.Background()
	opts := Options{Dir: dir, SegmentBytes: 1 << 20, CacheBytes: 1, DiskReserveBytes: 1, Logger: quiet()}
	l, _, err := Open(ctx, opts)
	if err != nil {
		return err
	}
	seal := func(e logcore.Entry) logcore.Entry { return sealAt(e, 3) }
	appendTo := func(last logcore.LSN) error {
		for lsn := l.Last() + 1; lsn <= last; lsn++ {
			if err := l.Append(ctx, []logcore.Entry{seal(entry(lsn, 2000))}); err != nil {
				return fmt.Errorf("append of %d: %w", lsn, err)
			}
		}
		return nil
	}
	read := func(lsn logcore.LSN) error {
		got, err := l.Entries(lsn, lsn+1, 1)
		if err == nil {
			err = sameEntry(got[0], seal(entry(lsn, 2000)))
		}
		return err
	}
	if err := appendTo(3 * fewFiles); err != nil {
		return err
	}
	for range 2 {
		if err := l.Close(); err != nil {
			return err
		}
		if l, _, err = Open(ctx, opts); err != nil {
			return err
		}
		for lsn := l.First(); lsn <= l.Last(); lsn++ {
			if err := read(lsn); err != nil {
				return fmt.Errorf("read of %d: %w", lsn, err)
			}
		}
	}
	if n := len(l.Segments()); n < fewFiles {
		return fmt.Errorf("void: %d segments", n)
	}
	// No descriptor left, and none that the log could give up: the checker has come to an end.
	for !l.allChecked() {
		time.Sleep(time.Millisecond)
	}
	l.dir.CloseIdle()
	var taken []*os.File
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			break
		}
		taken = append(taken, f)
	}
	if err := read(5); !errors.Is(err, logcore.ErrOverloaded) || errors.Is(err, logcore.ErrCorrupt) {
		return fmt.Errorf("read without a descriptor: %w", err)
	}
	if err := l.TrimHead(30); !errors.Is(err, logcore.ErrOverloaded) {
		return fmt.Errorf("trim without a descriptor: %w", err)
	}
	if err := l.TruncateTail(800); !errors.Is(err, logcore.ErrOverloaded) {
		return fmt.Errorf("truncation without a descriptor: %w", err)
	}
	last := l.Last()
	// Each segment that is sealed gives up the descriptors that the next one needs.
	if err := appendTo(last + 50); err != nil && !errors.Is(err, logcore.ErrDiskFull) {
		return fmt.Errorf("append without a spare descriptor: %w", err)
	}
	last = l.Last()
	if err := l.Err(); err != nil {
		return fmt.Errorf("poisoned: %w", err)
	}
	for _, f := range taken {
		f.Close()
	}
	if err := errors.Join(read(5), l.TrimHead(30), appendTo(last+50), l.TruncateTail(last+10), read(700), l.Close()); err != nil {
		return fmt.Errorf("with descriptors again: %w", err)
	}
	report, err := inspect.Check(ctx, inspect.CheckOptions{Dir: dir})
	if err != nil || len(report.Problems)+len(report.Rotten) != 0 || report.First != 31 || report.Last != last+10 {
		return fmt.Errorf("%+v, %w", report, err)
	}
	fmt.Println("few files: passed")
	return nil
}

// allChecked reports whether every segment but the last was read by the checker.
func (l *Log) allChecked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	view := *l.view.Load()
	return !slices.ContainsFunc(view[:len(view)-1], func(s *segfile) bool { return !s.checked })
}

// A closed log says that it is closed, whatever is asked of it.
func TestReadsOfAClosedLog(t *testing.T) {
	o := testOptions(t.TempDir())
	l := mustOpen(t, o)
	fill(t, l, 100, 40, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, entries := l.Entries(5, 9, 100)
	_, term := l.Term(5)
	_, span := l.Span(1, 40)
	_, seek := l.SeekTime(1)
	var stream error
	for _, err := range l.Stream(StreamOptions{From: 1, To: 5}) {
		stream = err
	}
	for what, err := range map[string]error{"Entries": entries, "Term": term, "Span": span, "SeekTime": seek, "Stream": stream,
		"TrimHead": l.TrimHead(40), "TruncateTail": l.TruncateTail(50), "Repair": l.Repair(segment.Span{}), "WaitDurable": l.WaitDurable(t.Context(), 101)} {
		if !errors.Is(err, logcore.ErrClosed) || errors.Is(err, logcore.ErrTrimmed) {
			t.Errorf("%s of a closed log: %v", what, err)
		}
	}
}
