package hotlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
)

// countingDir counts the bytes that are read from a medium.
type countingDir struct {
	media.Dir
	read *atomic.Int64
}

type countingFile struct {
	media.File
	read *atomic.Int64
}

func (d countingDir) Open(name string) (media.File, error) {
	f, err := d.Dir.Open(name)
	return countingFile{f, d.read}, err
}

func (d countingDir) Create(name string, size int64) (media.File, error) {
	f, err := d.Dir.Create(name, size)
	return countingFile{f, d.read}, err
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.read.Add(int64(n))
	return n, err
}

// logOf: the first byte of the transaction id says which of four logs, or none.
func logOf(e logcore.Entry) logcore.LogID {
	if !e.Kind.OfLog() {
		return 0
	}
	return logcore.LogID(e.Tx[0] % 5)
}

// quietLogs gives the entries to log 1, and in every fourth segment a few to log 2.
func quietLogs(n, segmentEntries int) []logcore.Entry {
	var out []logcore.Entry
	for i := range n {
		e := entry(logcore.LSN(i+1), 200+i%90)
		e.Tx = logcore.TxID{1}
		if i/segmentEntries%4 == 2 && i%segmentEntries > 10 && i%7 == 0 {
			e.Tx = logcore.TxID{2}
		}
		if i%5 == 1 {
			e.Time = 0
		}
		if i%segmentEntries == segmentEntries-1 {
			e.Kind, e.Payload, e.Tx = logcore.KindSeal, nil, logcore.TxID{}
		}
		out = append(out, e)
	}
	return out
}

// streamed is a log of 12 sealed segments and an open one, just opened, on a medium that
// counts what is read.
func streamed(t *testing.T, opts Options) (*Log, []logcore.Entry, *atomic.Int64) {
	t.Helper()
	dir := countingDir{simdisk.New(1), new(atomic.Int64)}
	entries := quietLogs(12*100+50, 100)
	open := func() *Log {
		l, _, err := openOn(context.Background(), dir, opts, openMode{inline: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	l := open()
	for rest := entries; len(rest) > 0; rest = rest[min(25, len(rest)):] {
		mustAppend(t, l, rest[:min(25, len(rest))]...)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	dir.read.Store(0)
	return l, entries, dir.read
}

// A stream gives what Entries gives, whatever the range and the log, from the cache and
// from the medium.
func TestStream(t *testing.T) {
	opts := simOptions()
	opts.LogOf = logOf
	l, entries, _ := streamed(t, opts)
	mustAppend(t, l, entry(1251, 70), entry(1252, 80)) // in the cache
	entries = append(entries, entry(1251, 70), entry(1252, 80))
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		from := 1 + logcore.LSN(rng.IntN(len(entries)))
		o := StreamOptions{From: from, To: from + logcore.LSN(rng.IntN(len(entries)+1-int(from))), Log: logcore.LogID(rng.IntN(4))}
		if rng.IntN(5) == 0 {
			o.To = 0
		}
		var want []logcore.Entry
		for _, e := range entries[from-1:] {
			if (o.To == 0 || e.LSN <= o.To) && (o.Log == 0 || logOf(e) == o.Log) {
				want = append(want, e)
			}
		}
		for e, err := range l.Stream(o) {
			if err != nil || len(want) == 0 {
				t.Fatalf("%+v: entry %d, %v", o, e.LSN, err)
			}
			if err := sameEntry(e, want[0]); err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			want = want[1:]
		}
		if len(want) != 0 {
			t.Fatalf("%+v: %d entries missing from LSN %d on", o, len(want), want[0].LSN)
		}
	}
}

// What the footers exclude is not read.
func TestStreamOfOneLogSkips(t *testing.T) {
	opts := simOptions()
	opts.LogOf = logOf
	l, _, read := streamed(t, opts)
	count := func(log logcore.LogID) (n int, bytes int64) {
		read.Store(0)
		for _, err := range l.Stream(StreamOptions{From: 1, Log: log}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n, read.Load()
	}
	busy, all := count(1)
	quietEntries, some := count(2)
	_, none := count(9)
	tail := l.Segments()[12].Bytes // an open segment has no ranges yet
	if busy < 1000 || quietEntries < 30 || quietEntries > 60 {
		t.Fatalf("void: %d and %d entries", busy, quietEntries)
	}
	if none > 2*tail || some > all/2 || some <= none {
		t.Fatalf("read %d bytes for the busy log, %d for the quiet one, %d for none; the open segment has %d", all, some, none, tail)
	}
	if at, first := l.NextOf(1, 5000, 2), firstOf(t, l, 2); at != first {
		t.Fatalf("NextOf says %d, the first entry of log 2 is %d", at, first)
	}
	if at := l.NextOf(1, 300, 9); at != 300 {
		t.Fatalf("NextOf of a log that is not there: %d", at)
	}
}

func firstOf(t *testing.T, l *Log, log logcore.LogID) logcore.LSN {
	t.Helper()
	for e, err := range l.Stream(StreamOptions{From: 1, Log: log}) {
		if err != nil {
			t.Fatal(err)
		}
		return e.LSN
	}
	return 0
}

// Every time is found, also between, before and behind those there are.
func TestSeekTime(t *testing.T) {
	l, entries, read := streamed(t, simOptions())
	for n := range 1300 {
		at := logcore.HLC(n)<<16 - logcore.HLC(n%3)
		want := logcore.LSN(len(entries) + 1)
		for _, e := range entries {
			if e.Time >= at {
				want = e.LSN
				break
			}
		}
		if got, err := l.SeekTime(at); err != nil || got != want {
			t.Fatalf("time %d: LSN %d, %v; want %d", at, got, err, want)
		}
	}
	if perSeek := read.Load() / 1300; perSeek > 64<<10 {
		t.Fatalf("%d bytes read for each seek", perSeek)
	}
}

func TestStreamRefuses(t *testing.T) {
	opts := simOptions()
	opts.LogOf = nil
	l, _, _ := streamed(t, opts)
	if err := l.TrimHead(250); err != nil {
		t.Fatal(err)
	}
	first := func(o StreamOptions) error {
		for _, err := range l.Stream(o) {
			return err
		}
		return nil
	}
	var lag *logcore.LagError
	if err := first(StreamOptions{From: 200}); !errors.Is(err, logcore.ErrTrimmed) {
		t.Fatalf("trimmed: %v", err)
	}
	if err := first(StreamOptions{From: 201, To: 1251}); !errors.As(err, &lag) {
		t.Fatalf("beyond what is durable: %v", err)
	}
	if err := first(StreamOptions{From: 201, Log: 3}); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("without LogOf: %v", err)
	}
	// A trim under a stream: what was read is right, the rest is said to be trimmed.
	seen := logcore.LSN(200)
	var err error
	for e, serr := range l.Stream(StreamOptions{From: 201}) {
		if err = serr; err != nil {
			break
		}
		if seen++; e.LSN != seen {
			t.Fatalf("LSN %d after %d", e.LSN, seen-1)
		}
		if e.LSN == 320 {
			if err := l.TrimHead(700); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(err, logcore.ErrTrimmed) || seen < 320 || seen > 400 {
		t.Fatalf("trimmed under the stream at LSN %d: %v", seen, err)
	}
}

// Streams, seeks and repairs beside the writer, trims and truncations: never a wrong
// entry, never one that was not durable.
func TestStreamsBesideWriter(t *testing.T) {
	o := testOptions(t.TempDir())
	o.CacheBytes, o.LogOf = 1, logOf
	l := mustOpen(t, o)
	stop := make(chan struct{})
	var others sync.WaitGroup
	loop := func(step func() error) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := step(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	expected := func(err error) bool {
		var lag *logcore.LagError
		return errors.Is(err, logcore.ErrTrimmed) || errors.As(err, &lag)
	}
	var seen atomic.Int64
	for log := range logcore.LogID(3) {
		loop(func() error {
			for e, err := range l.Stream(StreamOptions{From: l.First(), Log: log}) {
				if err != nil {
					if expected(err) {
						return nil
					}
					return err
				}
				if err := sameEntry(e, sealAt(entry(e.LSN, 300+int(e.LSN%50)), 40)); err != nil {
					return err
				}
				seen.Add(1)
			}
			return nil
		})
	}
	loop(func() error {
		want := l.First() + 30
		got, err := l.SeekTime(logcore.HLC(want) << 16)
		// Before it only where the log ends, behind it only where it begins.
		if err == nil && got > want && got > l.First() {
			return fmt.Errorf("time of LSN %d found at %d", want, got)
		}
		if err != nil && !expected(err) {
			return err
		}
		return nil
	})
	loop(func() error {
		segments := l.Segments()
		for _, s := range segments[max(len(segments)-3, 0):] {
			if !s.Sealed {
				continue
			}
			span, err := l.Span(s.First, s.Last)
			if err != nil {
				if expected(err) || errors.Is(err, logcore.ErrInvalid) {
					return nil
				}
				return err
			}
			if err := l.Repair(span); err != nil && !errors.Is(err, logcore.ErrInvalid) && !errors.Is(err, errGone) {
				return err
			}
		}
		return nil
	})
	for last := logcore.LSN(50); last <= 1500; last += 50 {
		fill(t, l, last, 40, 9)
		if last%300 == 0 {
			if err := l.TrimHead(last - 200); err != nil {
				t.Fatal(err)
			}
		}
		if last%250 == 0 {
			if err := l.TruncateTail(last - 30); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	others.Wait()
	if err := l.Err(); err != nil || seen.Load() < 1000 {
		t.Fatalf("%d entries seen, %v", seen.Load(), err)
	}
}
