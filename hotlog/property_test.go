package hotlog

import (
	"context"
	"errors"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// model is a log in memory, in the plainest way.
type model struct {
	first   logcore.LSN
	entries []logcore.Entry // entries[i] is LSN i+1; those below first are trimmed
	seals   []logcore.LSN
}

// TestProperty compares a log on real files with the model, over random operations
// and restarts.
func TestProperty(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "hotlog")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		opts := Options{Dir: dir, Shard: 3, SegmentBytes: 64 << 10, EntryBytesMax: 30 << 10, DiskReserveBytes: 1 << 20, Logger: quiet(),
			CacheBytes: rapid.SampledFrom([]int64{1, 1 << 20}).Draw(t, "cache")}
		m := &model{first: 1}
		l := openProperty(t, opts)
		defer func() { l.Close() }()
		gen := byte(0)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var batch []logcore.Entry
				gen++
				for range rapid.IntRange(1, 8).Draw(t, "entries") {
					e := entry(logcore.LSN(len(m.entries)+1), rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 9000)).Draw(t, "bytes"))
					e.Tx[1] = gen
					if rapid.IntRange(0, 12).Draw(t, "seal") == 0 || l.SealDue() {
						e.Kind = logcore.KindSeal
						m.seals = append(m.seals, e.LSN)
					}
					m.entries = append(m.entries, e)
					batch = append(batch, e)
				}
				if err := l.Append(ctx, batch); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = openProperty(t, opts)
			},
			"trim": func(t *rapid.T) {
				upTo := logcore.LSN(rapid.IntRange(0, len(m.entries)).Draw(t, "upTo"))
				if err := l.WaitDurable(ctx, l.Last()); err != nil {
					t.Fatal(err)
				}
				barrier(l)
				if err := l.TrimHead(upTo); err != nil {
					t.Fatal(err)
				}
				for _, s := range m.seals {
					if s <= upTo {
						m.first = max(m.first, s+1)
					}
				}
			},
			"truncate": func(t *rapid.T) {
				after := logcore.LSN(rapid.IntRange(int(m.first)-1, len(m.entries)).Draw(t, "after"))
				if err := l.TruncateTail(after); err != nil {
					t.Fatal(err)
				}
				m.entries = m.entries[:after:after]
				for len(m.seals) > 0 && m.seals[len(m.seals)-1] > after {
					m.seals = m.seals[:len(m.seals)-1]
				}
			},
			"read": func(t *rapid.T) {
				if len(m.entries) < int(m.first) {
					return
				}
				lo := logcore.LSN(rapid.IntRange(int(m.first), len(m.entries)).Draw(t, "lo"))
				hi := logcore.LSN(rapid.IntRange(int(lo)+1, len(m.entries)+3).Draw(t, "hi"))
				bytesMax := rapid.IntRange(0, 50_000).Draw(t, "bytesMax")
				checkRead(t, l, m, lo, hi, bytesMax)
			},
			"span": func(t *rapid.T) { checkSpan(t, l, m) },
			"":     func(t *rapid.T) { checkBounds(t, l, m) },
		})
	})
}

func openProperty(t *rapid.T, opts Options) *Log {
	l, r, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Created && !r.Clean {
		// A directory whose last segment was sealed by the entry before Close is
		// clean too: every Close leaves a clean mark.
		t.Fatalf("not clean after Close: %+v", r)
	}
	return l
}

// barrier waits until the committer is idle: rolls are done.
func barrier(l *Log) {
	idle := make(chan struct{})
	l.commands <- func() { close(idle) }
	<-idle
}

func checkBounds(t *rapid.T, l *Log, m *model) {
	if l.First() != m.first || l.Last() != logcore.LSN(len(m.entries)) || l.Durable() != l.Last() || l.Err() != nil {
		t.Fatalf("log is [%d, %d], durable %d, %v; want [%d, %d]", l.First(), l.Last(), l.Durable(), l.Err(), m.first, len(m.entries))
	}
	if _, err := l.Entries(m.first-1, m.first+1, 0); !errors.Is(err, logcore.ErrTrimmed) {
		t.Fatalf("read below the first: %v", err)
	}
	if _, err := l.Entries(l.Last()+1, l.Last()+9, 0); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Fatalf("read above the last: %v", err)
	}
	want := uint64(0)
	if m.first > 1 {
		want = m.entries[m.first-2].Term
	}
	if term, err := l.Term(m.first - 1); err != nil || term != want {
		t.Fatalf("term before the first: %d, %v; want %d", term, err, want)
	}
}

func checkRead(t *rapid.T, l *Log, m *model, lo, hi logcore.LSN, bytesMax int) {
	got, err := l.Entries(lo, hi, bytesMax)
	if err != nil || len(got) == 0 {
		t.Fatalf("read [%d, %d): %d entries, %v", lo, hi, len(got), err)
	}
	room := bytesMax
	for i, e := range got {
		if err := sameEntry(e, m.entries[int(lo)-1+i]); err != nil {
			t.Fatalf("read [%d, %d) at %d: %v", lo, hi, i, err)
		}
		room -= len(e.Payload) + segment.FrameHeaderBytes
	}
	if room < 0 && len(got) > 1 {
		t.Fatalf("read [%d, %d): %d bytes over the limit", lo, hi, -room)
	}
	term, err := l.Term(lo)
	if err != nil || term != m.entries[lo-1].Term {
		t.Fatalf("term of %d: %d, %v", lo, term, err)
	}
}

func checkSpan(t *rapid.T, l *Log, m *model) {
	segs := l.Segments()
	s := segs[rapid.IntRange(0, len(segs)-1).Draw(t, "segment")]
	if s.Last < s.First {
		return
	}
	first := logcore.LSN(rapid.IntRange(int(s.First), int(s.Last)).Draw(t, "first"))
	last := logcore.LSN(rapid.IntRange(int(first), int(s.Last)).Draw(t, "last"))
	span, err := l.Span(first, last)
	if err != nil || span.Sealed != (s.Sealed && last == s.Last) {
		t.Fatalf("span [%d, %d] of %+v: sealed %v, %v", first, last, s, span.Sealed, err)
	}
	at := first
	for e, err := range span.Entries() {
		if err == nil {
			err = sameEntry(e, m.entries[at-1])
		}
		if err != nil {
			t.Fatalf("span [%d, %d] at %d: %v", first, last, at, err)
		}
		at++
	}
	if at != last+1 {
		t.Fatalf("span [%d, %d] ended at %d", first, last, at)
	}
}
