package tiering

import (
	"fmt"
	"runtime"
	runtimemetrics "runtime/metrics"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/dir"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// Under a steady load and with MaxAge at its default, every entry is covered within it:
// with all targets fast, with one slow, one dead or one hanging. The clock is simulated.
func TestAgeStaysWithinItsLimit(t *testing.T) {
	warmCoders(t)
	for name, c := range map[string]struct {
		op      bucket.Op
		effect  bucket.Effect
		healthy bool
	}{
		"all fast":    {bucket.OpRetain, bucket.Fail(nil), true},
		"one slow":    {bucket.OpAny, bucket.Slow(300 * time.Millisecond), true},
		"one dead":    {bucket.OpAny, bucket.Fail(nil), false},
		"one hanging": {bucket.OpAny, bucket.Hang(), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 50)
				w.change = func(o *Options) { o.MaxAge, o.OpTimeout = 0, 0 }
				for i, f := range w.faults {
					if i != 5 {
						f.Add(bucket.Fault{Effect: bucket.Slow(5 * time.Millisecond)})
					}
				}
				w.faults[5].Add(bucket.Fault{Op: c.op, Effect: c.effect})
				a := w.start(nil)
				worst := time.Duration(0)
				for range 900 { // 90 s
					w.hot.append(5, 100)
					time.Sleep(100 * time.Millisecond)
					worst = max(worst, a.lag(), a.worstRPO())
				}
				if worst == 0 || worst > 2*time.Second {
					t.Errorf("an entry was covered after %v", worst)
				}
				time.Sleep(10 * time.Second)
				if st := a.Status(); st.Covered != w.hot.Committed() || (st.Degraded == 0) != c.healthy || st.Lag != 0 {
					t.Errorf("status %+v", st)
				}
				if err := a.close(); err != nil {
					t.Error(err)
				}
				if err := w.checkWithout(w.hot.Committed(), 0, 5); err != nil {
					t.Error(err)
				}
				t.Logf("worst age %v, %d records, %d objects", worst, a.state.Load().number, len(a.state.Load().live))
			})
		})
	}
}

// warmCoders makes the shared coders create their channels outside of any bubble.
func warmCoders(t *testing.T) {
	if _, err := openObject(t.Context(), testKeys(), mustSeal(t, testSpan(testFrames(100)), chunkBytesMin)); err != nil {
		t.Fatal(err)
	}
}

// A day of a quiet log: tails are folded as they come, the manifest is rolled up, and
// both stay small. The clock is simulated.
func TestManyTailsStayFew(t *testing.T) {
	warmCoders(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 51)
		w.change = func(o *Options) { o.MaxAge, o.Grace = 0, 0 }
		a, err := Open(t.Context(), w.options())
		if err != nil {
			t.Fatal(err)
		}
		r := run(t, a)
		for range 1200 {
			w.hot.append(1, 40)
			time.Sleep(2 * time.Second)
		}
		time.Sleep(10 * time.Minute)
		if st := a.Status(); st.Objects > 4*tailFanIn || a.Covered() != 1200 || len(a.chainNow()) > rollupAfterMax {
			t.Errorf("%+v, %d records to load", st, len(a.chainNow()))
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
		fragments, records := len(w.keysOn(0, "/fragment/")), len(w.keysOn(0, "/manifest/"))
		if fragments != a.Status().Objects || records > rollupAfterMax+rollupAfterMin {
			t.Errorf("%d fragments for %d objects, %d records are stored", fragments, a.Status().Objects, records)
		}
		if err := w.checkWithout(1200, 1, 2); err != nil {
			t.Error(err)
		}
		t.Logf("1200 tails: %d objects, %d records since the rollup, %d stored", a.Status().Objects, len(a.chainNow()), records)
	})
}

// The archiver's buffers stay within MemoryMax, whatever the size of a segment.
func TestMemoryStaysWithinItsLimit(t *testing.T) {
	w := newWorld(t, 52)
	for i := range w.faults {
		root := t.TempDir()
		if err := dir.Init(root); err != nil {
			t.Fatal(err)
		}
		b, err := dir.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		w.stores[i], w.faults[i] = b, bucket.NewFaults(b)
	}
	w.change = func(o *Options) { o.MemoryMax = 128 << 20 }
	w.hot.append(1200, 100_000) // 120 MB that half compress
	w.hot.seal()
	w.hot.offHeap(t)
	for _, c := range compressions { // what they hold is theirs for good
		eachLimited(4, 4, func(int) { c.compress(make([]byte, 20<<20)) })
	}
	runtime.GC()
	base := heapBytes()
	var peak atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Microsecond):
				peak.Store(max(peak.Load(), heapBytes()-base))
			}
		}
	}()
	a := w.start(nil)
	a.flushAll()
	a.settled()
	close(stop)
	<-stopped
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if n := a.Status().Objects; n < 15 {
		t.Fatalf("%d objects: the segment was not cut up", n)
	}
	held, counted := a.memory.now()
	t.Logf("heap peak %d KiB of %d KiB, buffers %d KiB of %d KiB", peak.Load()>>10, a.o.MemoryMax>>10, counted>>10, a.o.liveMax()>>10)
	if peak.Load() > a.o.MemoryMax {
		t.Errorf("heap peak %d, limit %d", peak.Load(), a.o.MemoryMax)
	}
	if held != 0 || counted > a.o.liveMax() || counted < a.o.objectBytesMax()/2 || a.memory.overdrawn > 0 {
		t.Errorf("buffers: %d held at the end, peak %d of %d, overdrawn by %d", held, counted, a.o.liveMax(), a.memory.overdrawn)
	}
	if err := w.checkWithout(1200, 1, 4); err != nil {
		t.Fatal(err)
	}
}

// Nobody holds more than was reserved, whatever the code, and however badly the content
// compresses; and nothing is held once all is archived.
func TestBudgetIsNotOverdrawn(t *testing.T) {
	for _, km := range [][2]int{{1, 1}, {4, 2}, {3, 3}, {10, 4}, {1, 5}} {
		w := newWorld(t, 53)
		w.change = func(o *Options) {
			o.K, o.M, o.Targets = km[0], km[1], nil
			for i := range km[0] + km[1] {
				name := fmt.Sprintf("t%d", i)
				o.Targets = append(o.Targets, Target{Name: name, Bucket: named{mem.New(), name}})
			}
		}
		w.hot.noise = true
		w.hot.append(40, 50_000)
		w.hot.seal()
		w.hot.append(10, 50_000)
		a := w.start(nil)
		a.flushAll()
		a.until("folded", func() bool { return a.state.Load().segmentComplete(1) })
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
		held, peak := a.memory.now()
		if held != 0 || peak < 1<<20 || peak > a.o.liveMax() || a.memory.overdrawn > 0 {
			t.Errorf("%d+%d: %d held at the end, peak %d of %d, overdrawn by %d", km[0], km[1], held, peak, a.o.liveMax(), a.memory.overdrawn)
		}
	}
}

func heapBytes() int64 {
	s := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// BenchmarkArchive is the whole way of a span of 16 MiB into six targets in memory:
// seal, code, put, read back, record.
func BenchmarkArchive(b *testing.B) {
	const size = 16 << 20
	w := newWorld(b, 60)
	w.change = func(o *Options) { o.MemoryMax = 256 << 20 }
	a, err := Open(b.Context(), w.options())
	if err != nil {
		b.Fatal(err)
	}
	w.hot.append(size/100_000, 100_000)
	span, err := w.hot.ReadSpan(b.Context(), 1, w.hot.Committed(), size)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(span.Frames)))
	for b.Loop() {
		o, fragments, err := a.sealAndCode(b.Context(), &making{span: span, kind: KindTail})
		if err != nil {
			b.Fatal(err)
		}
		if err := a.place(b.Context(), o, fragments); err != nil {
			b.Fatal(err)
		}
		if err := a.commit(b.Context(), func(s *state) *record { return s.change(a.o.Epoch, a.targetNames(), o) }); err != nil {
			b.Fatal(err)
		}
		a.landed(o.name())
	}
}

// BenchmarkSeal is the slowest stage of it alone: zstd and AES-256-GCM.
func BenchmarkSeal(b *testing.B) {
	h := newHot(60)
	h.append(160, 100_000)
	span, err := h.ReadSpan(b.Context(), 1, 160, 16<<20)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(span.Frames)))
	for b.Loop() {
		if _, err := sealObject(b.Context(), testKeys(), testKeys().Current(), testCluster, span, compressFast); err != nil {
			b.Fatal(err)
		}
	}
}

// An entry larger than an object should be is archived all the same, alone, within the
// memory that there is.
func TestLargeEntries(t *testing.T) {
	w := newWorld(t, 54)
	w.hot.append(3, 100)
	w.hot.append(1, 2<<20) // twice what fits an object at this MemoryMax, and all that is reserved still
	w.hot.append(3, 100)
	w.hot.seal()
	w.hot.append(1, 100)
	a := w.start(nil)
	a.flushAll()
	a.settled()
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if held, _ := a.memory.now(); held != 0 || a.memory.overdrawn > 0 {
		t.Errorf("%d held at the end, overdrawn by %d", held, a.memory.overdrawn)
	}
	w.mustCheck(8)
}
