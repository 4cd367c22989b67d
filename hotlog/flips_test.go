package hotlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

const flipFileBytes = 64 << 10

// fullSegment is a finished segment file in which every byte means something.
func fullSegment(t *testing.T) []byte {
	t.Helper()
	h := segment.Header{ID: segment.ID{First: 1}}
	b := segment.NewBuilder(h, logOf, segment.DigestSums)
	file := make([]byte, segment.FramesOffset)
	copy(file, h.Append(nil))
	sum := h.Prev
	add := func(e logcore.Entry) {
		at := len(file)
		file, sum = segment.AppendFrame(file, h.ID, sum, e)
		b.Add(&e, sum, file[at:])
	}
	for lsn := logcore.LSN(1); lsn <= 100; lsn++ {
		add(entry(lsn, 200+int(lsn)))
	}
	s := b.Summary()
	seal := segment.FrameBytes(0)
	// One entry fills what frames, SEAL and footer leave.
	add(entry(101, int(flipFileBytes-int64(len(file))-seal-int64(s.FooterBytes())-segment.FrameHeaderBytes)))
	add(logcore.Entry{LSN: 102, Kind: logcore.KindSeal, Time: 103 << 16})
	s = b.Summary()
	file = s.AppendFooter(file)
	if len(file) != flipFileBytes {
		t.Fatalf("the segment has %d bytes", len(file))
	}
	for seq := uint64(6); seq < 8; seq++ {
		m := segment.Mark{Seq: seq, State: segment.StateSealed, ID: h.ID, LSN: s.Last, End: s.End, Sum: s.Sum, Clean: true, Reach: flipFileBytes}
		copy(file[segment.MarkSlotOffset(seq):], m.Append(nil))
	}
	return file
}

// F6: each bit of a segment of 64 KiB is flipped; Check finds every one.
func TestF6EveryBit(t *testing.T) {
	every := figure(t, 61, 1)
	flips, err := flipEvery(t, fullSegment(t), every)
	if err != nil {
		t.Fatal(err)
	}
	void(t, "flips", flips, flipFileBytes*8/every)
	t.Logf("%d of %d flips found", flips, flips)
}

// A file with bytes that nothing covers is found out.
func TestF6FindsPlantedGap(t *testing.T) {
	flips, err := flipEvery(t, append(fullSegment(t), 1, 2, 3), 1<<19/8)
	if err == nil {
		t.Fatalf("3 bytes that nothing covers: all of %d flips found", flips)
	}
	t.Log("found:", err)
}

// flipEvery flips every so manieth bit of the only segment of a log, one at a time, and
// the last one, and has the log checked each time.
func flipEvery(t *testing.T, file []byte, every int) (flips int, err error) {
	var done atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range errs {
		d := simdisk.New(1)
		f, err := d.Create(segName(1), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(file, 0); err != nil {
			t.Fatal(err)
		}
		found := func() (bool, error) {
			report, err := inspect.CheckOn(context.Background(), d, inspect.CheckOptions{LogOf: logOf})
			return len(report.Problems)+len(report.Rotten) > 0, err
		}
		if bad, err := found(); bad || err != nil {
			t.Fatalf("the segment is not sound: %v", err)
		}
		flip := func(bit int) { d.Corrupt(segName(1), func(b []byte) { b[bit/8] ^= 1 << (bit % 8) }) }
		workers.Go(func() {
			for n := i; errs[i] == nil; n += len(errs) {
				bit := min(n*every, len(file)*8-1)
				flip(bit)
				bad, err := found()
				flip(bit)
				done.Add(1)
				if err != nil || !bad {
					errs[i] = fmt.Errorf("bit %d of byte %d was flipped: not found (%v)", bit%8, bit/8, err)
				}
				if bit == len(file)*8-1 {
					return
				}
			}
		})
	}
	workers.Wait()
	return int(done.Load()), errors.Join(errs...)
}

// F6: a sector that can't be read any more, in a sealed segment: the check in the
// background reports it with its place, and it is repaired while the log is in use.
func TestF6UnreadableSector(t *testing.T) {
	opts, told := testOptions("simdisk"), newFound()
	opts.OnDamage, opts.CacheBytes = told.add, 1
	opts, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	d := simdisk.New(1)
	open := func() *Log {
		l, _, err := openOn(context.Background(), d, opts, openMode{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	l := open()
	fill(t, l, 100, 40, 10)
	good, err := l.Span(41, 80)
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := segdir.Load(d)
	if err != nil {
		t.Fatal(err)
	}
	name := c.Live[1].Name
	d.Unreadable(name, segment.FramesOffset+5000)
	l = open()
	if c := told.wait(t, 1)[0]; c.Object != name || c.LSN < 41 || c.LSN > 80 {
		t.Fatalf("told %+v", c)
	}
	if _, err := l.Entries(41, 81, 1<<20); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("read of it: %v", err)
	}
	if err := l.Repair(good); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Entries(41, 81, 1<<20); err != nil || len(got) != 40 {
		t.Fatalf("after the repair: %d entries, %v", len(got), err)
	}
	mustAppend(t, l, entry(101, 10))
	// In the open tail nothing tells a sector that was torn from one that is unreadable, so
	// nothing is cut: the log stays as it is until somebody looks.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err = segdir.Load(d)
	if err != nil {
		t.Fatal(err)
	}
	d.Unreadable(c.Live[2].Name, segment.FramesOffset+100)
	before := d.Ops()
	if _, _, err := openOn(context.Background(), d, opts, openMode{}); err == nil || errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("open with an unreadable sector in the tail: %v", err)
	}
	if d.Ops() != before {
		t.Fatal("open changed the log")
	}
}
