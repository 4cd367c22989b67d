package tiering

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// hot is a hot tier in memory: entries of random bytes, chained by checksums as real
// ones are, in segments that seal when they are told to.
type hot struct {
	mu        sync.Mutex
	rng       *rand.Rand
	frames    map[logcore.LSN][]byte
	sums      map[logcore.LSN]uint32
	segments  []Segment
	committed logcore.LSN
	changed   chan struct{}
	trimmed   logcore.LSN
	used      int64
	limit     int64
	onTrim    func(upTo logcore.LSN)
	noise     bool // entries don't compress at all
}

func newHot(seed uint64) *hot {
	return &hot{rng: rand.New(rand.NewPCG(seed, 1)), frames: map[logcore.LSN][]byte{}, sums: map[logcore.LSN]uint32{}, changed: make(chan struct{})}
}

// append commits n entries of about size bytes.
func (h *hot) append(n, size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		lsn := h.committed + 1
		frame := binary.LittleEndian.AppendUint64(nil, uint64(lsn))
		pattern := size / 2
		if h.noise {
			pattern = 0
		}
		frame = append(frame, bytes.Repeat([]byte{byte(lsn)}, pattern)...)
		for range size - pattern {
			frame = append(frame, byte(h.rng.Uint32()))
		}
		h.frames[lsn] = frame
		h.sums[lsn] = crc32.Update(h.sums[lsn-1], castagnoli, frame)
		if len(h.segments) == 0 || h.segments[len(h.segments)-1].Sealed {
			h.segments = append(h.segments, Segment{First: lsn})
		}
		s := &h.segments[len(h.segments)-1]
		s.Last, s.Bytes = lsn, s.Bytes+int64(len(frame))
		h.committed = lsn
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// offHeap moves the entries out of the heap, as those of a real hot tier are.
func (h *hot) offHeap(t testing.TB) {
	h.mu.Lock()
	defer h.mu.Unlock()
	total := 0
	for _, f := range h.frames {
		total += len(f)
	}
	arena, err := syscall.Mmap(-1, 0, total, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(arena) })
	rest := arena
	for l, f := range h.frames {
		n := copy(rest, f)
		h.frames[l], rest = rest[:n:n], rest[n:]
	}
}

func (h *hot) seal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.segments[len(h.segments)-1].Sealed = true
}

func (h *hot) Committed() logcore.LSN { h.mu.Lock(); defer h.mu.Unlock(); return h.committed }

func (h *hot) Last() logcore.LSN { return h.Committed() }

func (h *hot) WaitCommitted(ctx context.Context, lsn logcore.LSN) error {
	for {
		h.mu.Lock()
		done, changed := h.committed >= lsn, h.changed
		h.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *hot) Segments() []Segment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.segments)
}

func (h *hot) Trim(_ context.Context, upTo logcore.LSN) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.onTrim != nil {
		h.onTrim(upTo)
	}
	h.trimmed = max(h.trimmed, upTo)
	h.segments = slices.DeleteFunc(h.segments, func(s Segment) bool { return s.Sealed && s.Last <= upTo })
	return nil
}

func (h *hot) trimmedTo() logcore.LSN { h.mu.Lock(); defer h.mu.Unlock(); return h.trimmed }

func (h *hot) Pressure() (int64, int64) { h.mu.Lock(); defer h.mu.Unlock(); return h.used, h.limit }

func (h *hot) ReadSpan(_ context.Context, first, last logcore.LSN, bytesMax int64) (Span, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.segments {
		if first < s.First || first > s.Last {
			continue
		}
		out := Span{SegmentFirst: s.First, First: first, Prev: h.sums[first-1], FirstTime: hotTime(first)}
		room := int64(0)
		for l := first; l <= min(last, s.Last) && room < bytesMax; l++ {
			room += int64(len(h.frames[l]))
		}
		out.Frames = make([]byte, 0, room)
		for l := first; l <= min(last, s.Last); l++ {
			if l > first && int64(len(out.Frames)+len(h.frames[l])) > bytesMax {
				break
			}
			out.Frames = append(out.Frames, h.frames[l]...)
			out.Last, out.LastTime, out.Sum = l, hotTime(l), h.sums[l]
		}
		out.Sealed = s.Sealed && out.Last == s.Last
		return out, nil
	}
	return Span{}, logcore.ErrTrimmed
}

func hotTime(l logcore.LSN) logcore.HLC { return logcore.HLC(1<<40 + uint64(l)) }

// content is what the entries [from,to] are, whether trimmed or not.
func (h *hot) content(from, to logcore.LSN) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b []byte
	for l := from; l <= to; l++ {
		b = append(b, h.frames[l]...)
	}
	return b
}

// world is a hot tier, six targets with faults, and a key.
type world struct {
	t      testing.TB
	hot    *hot
	stores []bucket.Bucket  // what is really there
	faults []*bucket.Faults // the way to it
	keys   *Keyring
	epoch  uint64
	change func(o *Options)
}

var targetNames = []string{"a1", "a2", "b1", "b2", "c1", "c2"}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, hot: newHot(seed), keys: newKeyring([][32]byte{{1, 2, 3, byte(seed)}})}
	for range targetNames {
		m := mem.New()
		w.stores = append(w.stores, m)
		w.faults = append(w.faults, bucket.NewFaults(m))
	}
	return w
}

func (w *world) targets() []Target {
	out := make([]Target, len(w.faults))
	for i, f := range w.faults {
		if i < len(targetNames) {
			out[i] = Target{Name: targetNames[i], Provider: targetNames[i][:1], Region: "r", Bucket: named{f, targetNames[i]}}
		}
	}
	return out[:len(targetNames)]
}

// stored is the targets without their faults.
func (w *world) bare() []Target {
	out := w.targets()
	for i := range out {
		out[i].Bucket = named{w.stores[i], targetNames[i]}
	}
	return out
}

// named gives each bucket its own place.
type named struct {
	bucket.Bucket
	name string
}

func (n named) String() string { return "mem://" + n.name }

var testCluster = [16]byte{'t', 'e', 's', 't', 15: 1}

func (w *world) options() Options {
	w.epoch++
	o := Options{Cluster: testCluster, Epoch: w.epoch, Incarnation: 7, Targets: w.targets(), Keys: w.keys, Source: w.hot, MaxAge: 20 * time.Millisecond,
		MemoryMax: memoryMin, Grace: time.Hour, OpTimeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if w.change != nil {
		w.change(&o)
	}
	return o
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// running is an archiver at work.
type running struct {
	*Archiver
	t    testing.TB
	stop context.CancelFunc
	done chan error
}

func (w *world) start(hook func(string) error) *running {
	w.t.Helper()
	a, err := openWithHook(w.t.Context(), w.options(), hook)
	if err != nil {
		w.t.Fatal(err)
	}
	return run(w.t, a)
}

func run(t testing.TB, a *Archiver) *running {
	ctx, stop := context.WithCancel(context.Background())
	r := &running{a, t, stop, make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(stop)
	return r
}

// close stops the archiver and returns what Run returned.
func (r *running) close() error {
	r.stop()
	err := patience.Receive(r.t, "the archiver stops", r.done)
	r.done <- err
	return err
}

// flushAll waits until everything committed is covered.
func (r *running) flushAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Flush(ctx, r.o.Source.Committed()); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a condition that the archiver brings about.
func (r *running) until(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s; status %+v, targets %+v", what, r.Status(), r.TargetStatus())
		}
		poke(r.wake)
		poke(r.tidy)
		time.Sleep(2 * time.Millisecond)
	}
}

// settled waits until there is nothing left to fold.
func (r *running) settled() {
	r.t.Helper()
	r.until("sealed segments folded and trimmed", func() bool {
		for _, s := range r.o.Source.Segments() {
			if s.Sealed {
				return false
			}
		}
		return true
	})
}

func (w *world) readerOn(targets []Target) (*Reader, error) {
	return OpenReader(w.t.Context(), ReaderOptions{Targets: targets, Keys: w.keys, Logger: quiet()})
}

// without returns the targets but those at the given places.
func without(targets []Target, lost ...int) (left []Target) {
	for i, t := range targets {
		if !slices.Contains(lost, i) {
			left = append(left, t)
		}
	}
	return left
}

// readBack returns everything a reader gives, checked to be without gap or overlap.
func readBack(ctx context.Context, r *Reader) (got []byte, first, last logcore.LSN, err error) {
	for s, err := range r.Spans(ctx, r.First(), 0) {
		if err != nil {
			return nil, 0, 0, err
		}
		if first == 0 {
			first = s.First
		} else if s.First != last+1 {
			return nil, 0, 0, fmt.Errorf("span [%d,%d] follows %d", s.First, s.Last, last)
		}
		last = s.Last
		got = append(got, s.Frames...)
	}
	return got, first, last, nil
}

// check is the oracle: what is covered is readable, byte for byte, from any four of the
// six targets; nothing was trimmed that is not covered. among restricts the losses to
// those that include a target which was away while archiving.
func (w *world) check(covered logcore.LSN, among ...int) error {
	for a := range 6 {
		for b := a + 1; b < 6; b++ {
			if len(among) > 0 && !slices.Contains(among, a) && !slices.Contains(among, b) {
				continue
			}
			if err := w.checkWithout(covered, a, b); err != nil {
				return fmt.Errorf("without %s and %s: %w", targetNames[a], targetNames[b], err)
			}
		}
	}
	return nil
}

func (w *world) checkWithout(covered logcore.LSN, lost ...int) error {
	if trimmed := w.hot.trimmedTo(); trimmed > covered {
		return fmt.Errorf("trimmed up to %d, covered up to %d", trimmed, covered)
	}
	r, err := w.readerOn(without(w.bare(), lost...))
	if (errors.Is(err, ErrNoArchive) || errors.Is(err, ErrUnproven)) && covered == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	got, first, last, err := readBack(w.t.Context(), r)
	if err != nil && covered > 0 {
		return err
	}
	if covered > 0 && (first != 1 || last < covered || !bytes.Equal(got, w.hot.content(1, last))) {
		return fmt.Errorf("read [%d,%d], %d bytes, want [1,%d] and the same bytes", first, last, len(got), covered)
	}
	return nil
}

func (w *world) mustCheck(covered logcore.LSN) {
	w.t.Helper()
	if err := w.check(covered); err != nil {
		w.t.Fatal(err)
	}
}

// keysOn returns the keys on a target that contain part.
func (w *world) keysOn(i int, part string) (keys []string) {
	w.t.Helper()
	err := w.stores[i].List(w.t.Context(), "", "", func(a bucket.Attributes) bool {
		if strings.Contains(a.Key, part) {
			keys = append(keys, a.Key)
		}
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

// rewriteObject changes an object behind everybody's back.
func (w *world) rewriteObject(i int, key string, change func(b []byte) []byte) {
	w.t.Helper()
	b, err := w.stores[i].Get(w.t.Context(), key, 0, -1)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.stores[i].Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
	if b = change(b); b == nil {
		return
	}
	if err := w.stores[i].PutIfAbsent(w.t.Context(), key, b); err != nil {
		w.t.Fatal(err)
	}
}
