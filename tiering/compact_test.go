package tiering

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// logContent is what a world's entries hold: odd LSNs are log 1's, even ones log 2's.
type logContent struct {
	hot     *hot
	mu      sync.Mutex
	aborted map[logcore.LSN]bool
	deleted logcore.LogID
	closed  map[logcore.LSN]time.Time
	erased  map[logcore.LSN]bool // as the test expects the archive to have them
	heirs   map[logcore.LogID][]logcore.LogID
	onErase func()
}

func (c *logContent) split(span Span, yield func(lsn logcore.LSN, frame []byte)) {
	b := span.Frames
	for l := span.First; l <= span.Last; l++ {
		n := len(c.hot.frames[l])
		if len(b) >= 16 && binary.LittleEndian.Uint64(b[8:]) == ^uint64(l) {
			n = 16 // erased
		}
		yield(l, b[:n])
		b = b[n:]
	}
}

func (c *logContent) Entries(_ context.Context, span Span) (out []ContentEntry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.split(span, func(l logcore.LSN, frame []byte) {
		if len(frame) > 16 {
			log := logcore.LogID(2 - l%2)
			out = append(out, ContentEntry{LSN: l, Log: log, Heirs: c.heirs[log], Closed: logcore.HLCAt(c.closed[l]), Aborted: c.aborted[l], Deleted: log == c.deleted, Bytes: int64(len(frame)) - 16})
		}
	})
	return out, nil
}

func (c *logContent) Erase(_ context.Context, span Span, gone func(logcore.LSN) bool) (Span, error) {
	if c.onErase != nil {
		c.onErase()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := span
	out.Frames = nil
	c.split(span, func(l logcore.LSN, frame []byte) {
		if gone(l) {
			frame = erasedFrame(l)
		}
		out.Frames = append(out.Frames, frame...)
	})
	return out, nil
}

func erasedFrame(l logcore.LSN) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(l)), ^uint64(l))
}

func (c *logContent) Version(context.Context) (string, error) { return logKey(c.deleted), nil }

// want is what the archive should give, with what was erased.
func (c *logContent) want(to logcore.LSN) (b []byte) {
	for l := logcore.LSN(1); l <= to; l++ {
		if c.erased[l] {
			b = append(b, erasedFrame(l)...)
		} else {
			b = append(b, c.hot.frames[l]...)
		}
	}
	return b
}

func compactWorld(t *testing.T, seed uint64, grace time.Duration) (*world, *logContent, *running) {
	w := newWorld(t, seed)
	c := &logContent{hot: w.hot, aborted: map[logcore.LSN]bool{}, closed: map[logcore.LSN]time.Time{}, erased: map[logcore.LSN]bool{}}
	w.change = func(o *Options) { o.Grace, o.Content, o.CompactEvery = grace, c, -1 }
	r := w.start(nil)
	for l := range logcore.LSN(40) {
		c.closed[l] = time.Now().Add(-time.Duration(40-l) * time.Hour)
	}
	w.busy(r)
	return w, c, r
}

func (c *logContent) check(t *testing.T, w *world) {
	t.Helper()
	reader, err := w.readerOn(w.targets())
	if err != nil {
		t.Fatal(err)
	}
	got, first, last, err := readBack(t.Context(), reader)
	if err != nil || first != 1 || !bytes.Equal(got, c.want(last)) {
		t.Fatalf("[%d,%d], %d bytes, want %d: %v", first, last, len(got), len(c.want(last)), err)
	}
}

// What was deleted, aborted or has expired is erased from sealed objects, and nothing
// else; tombstones say so, bytes are saved, and a later run finds nothing more to do.
func TestCompact(t *testing.T) {
	w, c, r := compactWorld(t, 101, time.Millisecond)
	c.aborted[3] = true
	c.erased[3] = true
	if err := r.SetRetention(t.Context(), 2, 35*time.Hour); err != nil { // LSNs 1 to 4 are older, 2 and 4 of log 2
		t.Fatal(err)
	}
	c.erased[2], c.erased[4] = true, true
	dry, err := r.Compact(t.Context(), CompactOptions{DryRun: true})
	if err != nil || dry.Entries != 3 || dry.Saved() <= 0 {
		t.Fatalf("%+v, %v", dry, err)
	}
	report, err := r.Compact(t.Context(), CompactOptions{})
	if err != nil || report.Rewritten != 1 || report.Entries != 3 || report.Saved() <= 0 || !report.Complete {
		t.Fatalf("%+v, %v", report, err)
	}
	c.check(t, w)
	var told []string
	for _, x := range r.Reader().Tombstones() {
		told = append(told, x.String())
	}
	if all := strings.Join(told, "\n"); len(told) != 2 || !strings.Contains(all, "2 entries of log 2 within LSN 2 to 4") || !strings.Contains(all, "1 entries of log 1 within LSN 3 to 3") || !strings.Contains(all, "aborted") {
		t.Fatal(all)
	}
	r.until("the old bytes are collected", func() bool { return w.onlyLive(r) == nil })
	if again, err := r.Compact(t.Context(), CompactOptions{}); err != nil || again.Looked != 0 {
		t.Fatalf("%+v, %v", again, err)
	}
	c.mu.Lock()
	c.deleted = 1
	c.mu.Unlock()
	if report, err = r.Compact(t.Context(), CompactOptions{}); err != nil || report.Rewritten != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	for l := logcore.LSN(1); l <= 15; l += 2 {
		c.erased[l] = true
	}
	c.check(t, w)
	r.close()
	// All of it stays for the next archiver, and for an auditor.
	w.change = nil
	next := w.start(nil)
	if n := len(next.Reader().Tombstones()); n == 0 {
		t.Fatal("the tombstones are gone")
	}
	next.close()
	report2, err := Verify(t.Context(), w.targets(), w.keys, nil)
	if err != nil || !report2.OK() {
		t.Fatalf("%v, %v", report2.Problems, err)
	}
}

// A hold wins over everything: over a deletion, over retention, and when it comes while
// the object is being rewritten.
func TestHoldWins(t *testing.T) {
	w, c, r := compactWorld(t, 102, time.Millisecond)
	c.deleted = 1
	if err := r.SetRetention(t.Context(), 0, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := r.SetHold(t.Context(), 1, "case 17"); err != nil {
		t.Fatal(err)
	}
	once := sync.OnceFunc(func() {
		if err := r.SetHold(context.Background(), 0, "case 18"); err != nil {
			t.Error(err)
		}
	})
	c.onErase = once
	report, err := r.Compact(t.Context(), CompactOptions{})
	if err != nil || report.Rewritten != 0 || report.Held == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	c.check(t, w)
	c.onErase = nil
	want := []LogPolicy{{Log: 0, Keep: time.Hour, Hold: "case 18"}, {Log: 1, Hold: "case 17"}}
	if got := r.Policies(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("%+v", got)
	}
	for _, log := range []logcore.LogID{0, 1} {
		if err := r.SetHold(t.Context(), log, ""); err != nil {
			t.Fatal(err)
		}
	}
	if report, err = r.Compact(t.Context(), CompactOptions{}); err != nil || report.Rewritten == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := r.SetRetention(t.Context(), 1, time.Second); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatal(err)
	}
	r.close()
}

// Without somebody who knows what entries are nothing is compacted, and that is said.
func TestCompactNeedsContent(t *testing.T) {
	w := newWorld(t, 103)
	r := w.start(nil)
	if _, err := r.Compact(t.Context(), CompactOptions{}); !errors.Is(err, ErrNoContent) {
		t.Fatal(err)
	}
	r.close()
}

// What a branch inherits is kept as long as the branch wants it, and while that is under
// hold.
func TestWhatABranchInheritsIsKeptForIt(t *testing.T) {
	w, c, r := compactWorld(t, 107, time.Millisecond)
	c.heirs = map[logcore.LogID][]logcore.LogID{1: {3}}
	erased := func() uint64 {
		t.Helper()
		report, err := r.Compact(t.Context(), CompactOptions{All: true})
		if err != nil {
			t.Fatal(err)
		}
		return report.Entries
	}
	if err := r.SetRetention(t.Context(), 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := erased(); n != 0 {
		t.Fatalf("%d entries were erased that log 3 keeps for ever", n)
	}
	if err := r.SetRetention(t.Context(), 3, 36*time.Hour); err != nil { // LSNs 1 and 3 of log 1 are older
		t.Fatal(err)
	}
	if err := r.SetHold(t.Context(), 3, "case 18"); err != nil {
		t.Fatal(err)
	}
	if n := erased(); n != 0 {
		t.Fatalf("%d entries were erased that are under hold for log 3", n)
	}
	if err := r.SetHold(t.Context(), 3, ""); err != nil {
		t.Fatal(err)
	}
	if n := erased(); n != 2 {
		t.Fatalf("%d entries were erased, want 2", n)
	}
	c.erased[1], c.erased[3] = true, true
	c.check(t, w)
	r.close()
}
