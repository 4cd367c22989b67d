package hotlog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// footersAsRead compares the footer of every finished segment with its frames as read.
func footersAsRead(t *testing.T, l *Log, want int) {
	t.Helper()
	finished := 0
	for _, s := range *l.view.Load() {
		if !s.finished {
			continue
		}
		finished++
		got, err := segment.Summarize(s.f, s.header, s.committed.end, l.opts.LogOf, segment.DigestSums)
		if err == nil {
			err = got.Differs(s.sum)
		}
		if err != nil || s.sum.DigestKind != segment.DigestSums {
			t.Errorf("segment %d, digest kind %d: %v", s.header.ID.First, s.sum.DigestKind, err)
		}
	}
	if finished != want {
		t.Errorf("%d segments are finished, want %d", finished, want)
	}
}

// A footer takes no reading where the segment was written in one go, whatever failed or
// was sealed meanwhile, and is what the frames give. A segment that the log was opened or
// cut in the middle of is read.
func TestFootersFromMemory(t *testing.T) {
	disk := simdisk.New(1)
	dir := countingDir{disk, new(atomic.Int64)}
	opts := simOptions()
	opts.CacheBytes = 1 << 20 // as in service, it holds what the finisher has not seen
	open := func() *Log {
		l, _, err := openOn(context.Background(), dir, opts, openMode{inline: true})
		if err != nil {
			t.Fatal(err)
		}
		dir.read.Store(0)
		return l
	}
	l := open()
	fill(t, l, 110, 40, 10)
	if got := dir.read.Load(); got != 0 {
		t.Errorf("%d bytes were read", got)
	}
	footersAsRead(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	fill(t, l, 150, 40, 10)
	if got := dir.read.Load(); got < 40*300 {
		t.Errorf("%d bytes were read of a segment begun before the log was opened", got)
	}
	footersAsRead(t, l, 3)
	if err := l.TruncateTail(135); err != nil {
		t.Fatal(err)
	}
	dir.read.Store(0)
	fill(t, l, 170, 40, 10)
	if got := dir.read.Load(); got < 15*300 {
		t.Errorf("%d bytes were read of a segment that was cut", got)
	}
	footersAsRead(t, l, 4)
	dir.read.Store(0)
	fill(t, l, 210, 40, 10)
	if got := dir.read.Load(); got != 0 {
		t.Errorf("%d bytes were read of the segment behind", got)
	}
	footersAsRead(t, l, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// rottenDir gives every frame back with a bit changed.
type rottenDir struct{ media.Dir }

type rottenFile struct{ media.File }

func (d rottenDir) Create(name string, size int64) (media.File, error) {
	f, err := d.Dir.Create(name, size)
	return rottenFile{f}, err
}

func (d rottenDir) Open(name string) (media.File, error) {
	f, err := d.Dir.Open(name)
	return rottenFile{f}, err
}

func (f rottenFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if at := segment.FramesOffset + 5000 - off; at >= 0 && at < int64(n) {
		p[at] ^= 8
	}
	return n, err
}

// What a footer from memory can't know is found soon after: the checker reads each
// segment once, and tells of what the medium gave back.
func TestCheckerReadsWhatWasFinishedFromMemory(t *testing.T) {
	opts, told := testOptions(t.TempDir()), newFound()
	opts.OnDamage = told.add
	opts, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := openOn(context.Background(), rottenDir{mustDir(t, opts.Dir)}, opts, openMode{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 100, 40, 10)
	damage := told.wait(t, 2)
	for i, c := range damage {
		if c.LSN <= logcore.LSN(i*40+1) || c.LSN >= logcore.LSN(i*40+40) || !errors.Is(c, logcore.ErrCorrupt) {
			t.Errorf("told of %+v", c)
		}
	}
	waitFinished(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
