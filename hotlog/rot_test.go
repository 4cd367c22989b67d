package hotlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// closedWorld returns a disk with a log that was closed in good order: some sealed
// segments and an open one.
func closedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(5)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		if err := w.log.Append(context.Background(), w.make(5, i%5 == 4)); err != nil {
			t.Fatal(err)
		}
	}
	w.acked = logcore.LSN(len(w.entries))
	w.idle()
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// on returns the same world on a copy of its disk.
func (w *world) on(d *simdisk.Disk) *world {
	return &world{disk: d, opts: w.opts, rng: w.rng, gen: w.gen, entries: w.entries, acked: w.acked, firstMin: 1, firstMax: 1}
}

// extent is a file and how much of it means something.
type extent struct {
	name string
	end  int64
}

func extents(t *testing.T, d *simdisk.Disk) (out []extent) {
	t.Helper()
	c, err := segdir.Load(d)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Live {
		r, err := c.Recover(i, segment.RecoverOptions{Scan: true})
		if err != nil {
			t.Fatal(err)
		}
		end := r.End
		if r.Sealed {
			end += int64(r.FooterBytes())
		}
		out = append(out, extent{c.Live[i].Name, end})
	}
	return out
}

// F6: a flipped bit anywhere in a closed log is found by Check. Open and reads give
// the right entries or an error with the place, and count it; nothing is cut.
func TestF6RotInALog(t *testing.T) {
	w := closedWorld(t)
	files := extents(t, w.disk)
	if len(files) != 3 {
		t.Fatalf("%d segments", len(files))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	refused, repaired := 0, 0
	for trial := range 1000 {
		d := w.disk.Crash(1)
		f := files[trial%len(files)]
		at, bit := rng.Int64N(f.end), rng.IntN(8)
		if trial < 600 { // the small parts deserve more than their share
			at = rng.Int64N(segment.FramesOffset)
		}
		d.Corrupt(f.name, func(b []byte) { b[at] ^= 1 << bit })
		report, err := inspect.CheckOn(context.Background(), d, inspect.CheckOptions{LogOf: logOf})
		if err != nil || len(report.Problems)+len(report.Rotten) == 0 {
			t.Fatalf("bit %d of byte %d of %s: not found by Check: %+v, %v", bit, at, f.name, report, err)
		}
		c := w.on(d)
		counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})
		c.opts.Corruptions = counter
		err = c.compare()
		if c.log != nil {
			c.log.Close()
		}
		// An unreadable mark may be the write of a crash: nothing is lost by it, nothing counted.
		if inMark := at >= segment.MarkOffset && at < segment.FramesOffset; value(t, counter) == 0 && !inMark {
			t.Fatalf("bit %d of byte %d of %s: not counted", bit, at, f.name)
		}
		if err == nil {
			repaired++
			continue
		}
		refused++
		var place *logcore.CorruptionError
		if !errors.As(err, &place) || place.Object != f.name || place.Place == "" || place.Offset < 0 {
			t.Fatalf("bit %d of byte %d of %s: %v", bit, at, f.name, err)
		}
	}
	if refused < 100 || repaired < 100 {
		t.Fatalf("void: %d refused, %d repaired", refused, repaired)
	}
	t.Logf("%d flips found; %d refused with their place, %d repaired", refused+repaired, refused, repaired)
}

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// A batch of which the first entry did not reach the disk, and the others did: they
// are gone for ever, also when the first ones are submitted again, equal to the bit,
// and the chain of checksums leads up to the others.
func TestGivenUpEntriesStayGone(t *testing.T) {
	const n = 40 // 40 KB, more than a mark's reach in so small a segment
	w := newWorld(9)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for lsn := logcore.LSN(1); lsn <= n; lsn++ {
		w.entries = append(w.entries, entry(lsn, 1000))
	}
	result := make(chan *simdisk.Disk, 1)
	if err := w.log.Submit(w.entries, func(error) { result <- w.disk.Crash(1) }); err != nil { // before an idle mark
		t.Fatal(err)
	}
	crashed := <-result
	crashed.Corrupt("00000001.seg", func(b []byte) {
		id, err := segment.Identify(b[:segment.FramesOffset])
		if err != nil {
			t.Fatal(err)
		}
		clear(b[segment.FramesOffset:][:4096])
		b[segment.MarkSlotOffset(id.Mark.Seq)+50] ^= 1 // nor did the mark written with it
	})
	for again := range n - 1 {
		again++
		c := w.on(crashed.Crash(1))
		for _, entries := range [][]logcore.Entry{w.entries[:again], nil} {
			if err := c.open(); err != nil {
				t.Fatal(err)
			}
			if entries != nil {
				if c.log.Last() != 0 {
					t.Fatalf("the log ends at %d", c.log.Last())
				}
				if err := c.log.Append(context.Background(), entries); err != nil {
					t.Fatal(err)
				}
			} else if c.log.Last() != logcore.LSN(again) {
				t.Fatalf("%d entries were submitted again, the log ends at %d", again, c.log.Last())
			}
			if err := c.log.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
}

// A newer version anywhere refuses the directory as unsupported, not corrupt.
func TestNewerVersionIsUnsupported(t *testing.T) {
	w := closedWorld(t)
	files := extents(t, w.disk)
	d := w.disk.Crash(1)
	d.Corrupt(files[0].name, func(b []byte) {
		h := segment.Header{ID: segment.ID{First: 1}}.Append(nil)
		copy(b, newerVersion(h))
	})
	if err := w.on(d).compare(); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("Open: %v", err)
	}
	report, err := inspect.CheckOn(context.Background(), d, inspect.CheckOptions{LogOf: logOf})
	if err != nil || len(report.Problems) == 0 || !errors.Is(report.Problems[0], logcore.ErrUnsupportedVersion) {
		t.Fatalf("Check: %+v, %v", report, err)
	}
}

// A footer is derived: damaged or never written, it is made anew from its frames.
func TestFooterIsRebuilt(t *testing.T) {
	w := closedWorld(t)
	files := extents(t, w.disk)
	d := w.disk.Crash(1)
	d.Corrupt(files[0].name, func(b []byte) { clear(b[files[0].end-150 : files[0].end]) })
	c := w.on(d)
	l, report, err := openOn(context.Background(), d, c.opts, openMode{inline: true})
	if err != nil || report.FootersRebuilt != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.compare(); err != nil {
		t.Fatal(err)
	}
	if err := c.log.Close(); err != nil {
		t.Fatal(err)
	}
	if check, err := inspect.CheckOn(context.Background(), d, inspect.CheckOptions{LogOf: logOf}); err != nil || len(check.Problems) != 0 {
		t.Fatalf("%+v, %v", check, err)
	}
}

// Check of a sound log says what is there; Dump lists every entry.
func TestCheckAndDump(t *testing.T) {
	o := testOptions(t.TempDir())
	l := mustOpen(t, o)
	fill(t, l, 95, 40, 7)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var done, total int64
	report, err := inspect.Check(context.Background(), inspect.CheckOptions{Dir: o.Dir, Progress: func(d, n int64) { done, total = d, n }})
	if err != nil || len(report.Problems)+len(report.Rotten)+len(report.Notes) != 0 || report.Entries != 95 || report.First != 1 || report.Last != 95 || report.Proven != 95 || report.Segments != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	if done != total || done == 0 {
		t.Fatalf("progress %d of %d", done, total)
	}
	var out bytes.Buffer
	if err := inspect.Dump(context.Background(), o.Dir, func(d fmt.Stringer) error { _, err := fmt.Fprintln(&out, d); return err }); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "footer: 40 entries"); n != 2 || strings.Count(out.String(), ".seg: log ") != 8 || strings.Count(out.String(), "checksums sha256=") != 2 {
		t.Fatalf("dump shows %d footers:\n%s", n, out.String())
	}
	// Ranges that are not those of the entries are a problem like any other.
	other := func(e logcore.Entry) logcore.LogID { return logOf(e) * 2 }
	if report, err := inspect.Check(context.Background(), inspect.CheckOptions{Dir: o.Dir, LogOf: other}); err != nil || len(report.Problems) != 2 || !errors.Is(report.Problems[0], logcore.ErrCorrupt) {
		t.Fatalf("with other log ranges: %+v, %v", report, err)
	}
	if n := strings.Count(out.String(), " checksum="); n != 95 || !strings.Contains(out.String(), "first LSN 81") {
		t.Fatalf("dump lists %d entries:\n%s", n, out.String())
	}
}
