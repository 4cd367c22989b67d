package hotlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// F7: a frame written over another one, for every ordered pair of 256: found, at its place.
func TestF7FramesMisdirected(t *testing.T) {
	const n = 256
	h := segment.Header{ID: segment.ID{Shard: 1, First: 1000}, Prev: 77}
	file := make([]byte, segment.FramesOffset)
	copy(file, h.Append(nil))
	sum, at := h.Prev, []int{}
	for i := range n {
		at = append(at, len(file))
		file, sum = segment.AppendFrame(file, h.ID, sum, entry(h.ID.First+logcore.LSN(i), 100))
	}
	size := len(file) - at[n-1]
	id := segment.Identity{State: segment.StateOpen, Header: h, Mark: segment.Mark{State: segment.StateOpen, ID: h.ID,
		LSN: h.ID.First + n - 1, End: int64(len(file)), Sum: sum, Reach: int64(len(file))}}
	judge := func(file []byte) error {
		_, err := segment.Recover(bytes.NewReader(file), int64(len(file)), id, segment.RecoverOptions{Scan: true})
		return err
	}
	if err := judge(file); err != nil {
		t.Fatal(err)
	}
	pairs, bad := 0, slices.Clone(file)
	for i := range n {
		for j := range n {
			if i == j {
				continue
			}
			pairs++
			copy(bad[at[j]:], file[at[i]:][:size])
			var place *logcore.CorruptionError
			if err := judge(bad); !errors.As(err, &place) || place.LSN != h.ID.First+logcore.LSN(j) || place.Offset != int64(at[j]) {
				t.Fatalf("frame %d written over frame %d: %v", i, j, err)
			}
			copy(bad[at[j]:], file[at[j]:][:size])
		}
	}
	void(t, "ordered pairs", pairs, n*(n-1))
}

// F7: an acknowledged block that never reached the disk, or was lost to what was there
// before: found by Check, and Open and reads say so or give what is right.
func TestF7AcknowledgedBlockLost(t *testing.T) {
	w := closedWorld(t)
	blocks := 0
	for _, f := range extents(t, w.disk) {
		for at := int64(segment.FramesOffset); at < f.end; at += segment.BlockBytes {
			end := min(at+segment.BlockBytes, f.end)
			for name, change := range map[string]func([]byte){
				"never written": func(b []byte) { clear(b[at:end]) },
				"an older one":  func(b []byte) { copy(b[at:end], bytes.Repeat([]byte("older content"), int(end-at))) },
			} {
				blocks++
				d := w.disk.Crash(1)
				d.Corrupt(f.name, change)
				report, err := inspect.CheckOn(context.Background(), d, inspect.CheckOptions{LogOf: logOf})
				if err != nil || len(report.Problems) == 0 {
					t.Fatalf("block at %d of %s %s: not found by Check: %+v, %v", at, f.name, name, report, err)
				}
				c := w.on(d)
				err = c.compare()
				if err != nil && !errors.Is(err, logcore.ErrCorrupt) {
					t.Fatalf("block at %d of %s %s: %v", at, f.name, name, err)
				}
				if c.log != nil {
					if c.log.Last() != w.acked {
						t.Fatalf("block at %d of %s %s: the log was cut at %d", at, f.name, name, c.log.Last())
					}
					c.log.Close()
				}
			}
		}
	}
	void(t, "blocks", blocks, 20)
}

// F7: files swapped with each other, or one lost: found by Open and by Check.
func TestF7FilesSwappedOrLost(t *testing.T) {
	w := closedWorld(t)
	files := extents(t, w.disk)
	lose := w.disk.Crash(1)
	if err := lose.Remove(files[1].name); err != nil {
		t.Fatal(err)
	}
	twice := w.disk.Crash(1)
	var first []byte
	twice.Corrupt(files[0].name, func(b []byte) { first = bytes.Clone(b) })
	twice.Corrupt(files[2].name, func(b []byte) { copy(b, first) })
	frames := w.disk.Crash(1)
	frames.Corrupt(files[2].name, func(b []byte) { copy(b[segment.FramesOffset:], first[segment.FramesOffset:]) })
	for name, d := range map[string]*simdisk.Disk{"lost": lose, "twice": twice, "frames of another": frames} {
		report, err := inspect.CheckOn(context.Background(), d, inspect.CheckOptions{LogOf: logOf})
		if err != nil || len(report.Problems) == 0 {
			t.Errorf("%s: Check: %+v, %v", name, report, err)
		}
		if err := w.on(d).compare(); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: Open: %v", name, err)
		}
	}
	// Names mean nothing: what is in a file counts.
	d := w.disk.Crash(1)
	for _, r := range [][2]string{{files[0].name, "x"}, {files[1].name, files[0].name}, {"x", files[1].name}} {
		if err := d.Rename(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.on(d).compare(); err != nil {
		t.Errorf("renamed: %v", err)
	}
}

// F8: each entry damaged in turn, in several ways, in a log that was closed and in one that
// a crash left: what is proven is never cut, but reported with its place.
func TestF8CommittedIsNeverCut(t *testing.T) {
	closed, crashed := closedWorld(t), newWorld(6)
	if err := crashed.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := crashed.log.Append(context.Background(), crashed.make(5, i%5 == 4)); err != nil {
			t.Fatal(err)
		}
	}
	crashed.acked = logcore.LSN(len(crashed.entries))
	crashed.idle()
	for name, w := range map[string]*world{"closed": closed, "crashed": crashed} {
		done, err := damageEach(t, w.on(w.disk.Crash(1)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		void(t, "damaged entries", done, 4*(len(w.entries)-15))
		t.Logf("%s: %d times an entry was damaged, 0 cuts of one that is proven", name, done)
	}
	if err := crashed.log.Close(); err != nil {
		t.Fatal(err)
	}
}

// A log that proves nothing is found out: it cuts what was acknowledged.
func TestF8FindsPlantedCut(t *testing.T) {
	w := newWorld(6)
	w.medium = wrappingDir{w.disk, func(f media.File) media.File { return unprovenFile{f} }}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	if err := w.log.Append(context.Background(), w.make(30, false)); err != nil {
		t.Fatal(err)
	}
	w.acked = 30
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err := damageEach(t, w.on(w.disk)); err == nil {
		t.Fatalf("not found with %d damaged entries", done)
	} else {
		t.Log("found:", err)
	}
}

// unprovenFile plants a bug: what is written says that nothing is proven durable, so that
// every bad frame is a torn tail.
type unprovenFile struct{ media.File }

func (f unprovenFile) WriteSync(writes []media.Write) error {
	for _, w := range writes {
		m, err := segment.DecodeMark(w.P)
		if err == nil && m.State == segment.StateOpen {
			m.LSN, m.End, m.Sum = m.ID.First-1, segment.FramesOffset, 0 // in the first segment of a log
			m.Append(w.P[:0])
		}
	}
	return f.File.WriteSync(writes)
}

// damageEach damages each entry that the marks prove, or that is in a log that was
// closed, and returns how many it was and the first that was cut or not reported.
func damageEach(t *testing.T, w *world) (done int, err error) {
	files := extents(t, w.disk)
	proven := provenOf(t, w)
	for lsn := logcore.LSN(1); lsn <= proven; lsn++ {
		name, off := locate(t, w.disk, files, lsn)
		for way, change := range []func(b []byte){
			func(b []byte) { b[off+40] ^= 16 },                                          // a bit
			func(b []byte) { b[off+4] ^= 255 },                                          // its length
			func(b []byte) { clear(b[off : off+segment.FrameHeaderBytes]) },             // its head
			func(b []byte) { clear(b[off:min(int64(len(b)), off+segment.BlockBytes)]) }, // a block, as if it were the end
		} {
			d := w.disk.Crash(1)
			d.Corrupt(name, change)
			done++
			c := w.on(d)
			err := c.compare()
			if c.log != nil {
				if last := c.log.Last(); last < proven {
					return done, fmt.Errorf("LSN %d of %d that are proven, damaged in way %d: the log was cut at %d", lsn, proven, way, last)
				}
				c.log.Close()
			}
			var place *logcore.CorruptionError
			if !errors.As(err, &place) || place.LSN != lsn || place.Object != name || place.Offset != off {
				return done, fmt.Errorf("LSN %d at %d of %s, damaged in way %d: %w", lsn, off, name, way, err)
			}
		}
	}
	return done, nil
}

// provenOf is how far the log proves that it is durable; all of it when it was closed in
// good order, whatever it says.
func provenOf(t *testing.T, w *world) logcore.LSN {
	t.Helper()
	c, err := segdir.Load(w.disk)
	if err != nil {
		t.Fatal(err)
	}
	newest := c.Live[len(c.Live)-1].Identity.Mark
	if newest.Clean {
		return w.acked
	}
	return newest.LSN
}

// locate returns where the frame of an LSN begins.
func locate(t *testing.T, d *simdisk.Disk, files []extent, lsn logcore.LSN) (string, int64) {
	t.Helper()
	c, err := segdir.Load(d)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range c.Live {
		h := x.Identity.Header
		frames := segment.NewReader(x.File, h.ID, segment.Point{LSN: h.ID.First, Offset: segment.FramesOffset, Prev: h.Prev}, files[i].end)
		for {
			at := frames.Offset()
			e, _, err := frames.Next()
			if err != nil {
				break
			}
			if e.LSN == lsn {
				return x.Name, at
			}
		}
	}
	t.Fatalf("no LSN %d", lsn)
	return "", 0
}
