package hotlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/segment"
)

func testOptions(dir string) Options {
	return Options{Dir: dir, SegmentBytes: 64 << 10, DiskReserveBytes: 1 << 20, LogOf: logOf, Logger: quiet()}
}

func entry(lsn logcore.LSN, size int) logcore.Entry {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(int(lsn)*7 + i)
	}
	return logcore.Entry{LSN: lsn, Term: 1 + uint64(lsn)/10, Kind: logcore.KindData, Time: logcore.HLC(lsn) << 16, Tx: logcore.TxID{byte(lsn)}, Payload: p}
}

// sealAt makes an entry the SEAL when its LSN is one of those.
func sealAt(e logcore.Entry, every logcore.LSN) logcore.Entry {
	if e.LSN%every == 0 {
		e.Kind, e.Payload = logcore.KindSeal, nil
	}
	return e
}

func mustOpen(t *testing.T, o Options) *Log {
	t.Helper()
	l, _, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustAppend(t *testing.T, l *Log, entries ...logcore.Entry) {
	t.Helper()
	if err := l.Append(context.Background(), entries); err != nil {
		t.Fatal(err)
	}
}

// fill appends entries up to last, sealing at every multiple of every, batch by batch.
func fill(t *testing.T, l *Log, last, every logcore.LSN, batch int) {
	t.Helper()
	for l.Last() < last {
		var list []logcore.Entry
		for lsn := l.Last() + 1; lsn <= last && len(list) < batch; lsn++ {
			list = append(list, sealAt(entry(lsn, 300+int(lsn%50)), every))
		}
		mustAppend(t, l, list...)
	}
}

func TestDirectoryInUse(t *testing.T) {
	o := testOptions(t.TempDir())
	l := mustOpen(t, o)
	if _, _, err := Open(context.Background(), o); !errors.Is(err, logcore.ErrInUse) || !strings.Contains(err.Error(), o.Dir) {
		t.Fatalf("second Open: %v", err)
	}
	if _, err := inspect.Check(context.Background(), inspect.CheckOptions{Dir: o.Dir}); !errors.Is(err, logcore.ErrInUse) {
		t.Fatalf("Check of an open log: %v", err)
	}
	if err := inspect.Dump(context.Background(), o.Dir, nil); !errors.Is(err, logcore.ErrInUse) {
		t.Fatalf("Dump of an open log: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	mustOpen(t, o)
}

func TestOptionsReportAllBadFields(t *testing.T) {
	_, _, err := Open(context.Background(), Options{SegmentBytes: 5, EntryBytesMax: -1, CacheBytes: -1, QueueBytesMax: -1, DiskReserveBytes: -1})
	if !errors.Is(err, logcore.ErrInvalid) {
		t.Fatal(err)
	}
	for _, field := range []string{"Dir", "SegmentBytes", "EntryBytesMax", "CacheBytes", "QueueBytesMax", "DiskReserveBytes"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not reported: %v", field, err)
		}
	}
}

func TestWrongShard(t *testing.T) {
	o := testOptions(t.TempDir())
	if err := mustOpen(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	o.Shard = 9
	if _, _, err := Open(context.Background(), o); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "shard 0") {
		t.Fatalf("open as another shard: %v", err)
	}
}

func TestSubmitRefuses(t *testing.T) {
	o := testOptions(t.TempDir())
	o.EntryBytesMax, o.QueueBytesMax = 1000, 3000
	l := mustOpen(t, o)
	never := func(error) { t.Error("done was called for a refused submission") }
	kind := entry(1, 0)
	kind.Kind = 77
	for name, tt := range map[string]struct {
		entries []logcore.Entry
		want    error
	}{
		"none":      {nil, logcore.ErrInvalid},
		"gap":       {[]logcore.Entry{entry(2, 1)}, logcore.ErrInvalid},
		"gap after": {[]logcore.Entry{entry(1, 1), entry(3, 1)}, logcore.ErrInvalid},
		"kind":      {[]logcore.Entry{kind}, logcore.ErrInvalid},
		"too large": {[]logcore.Entry{entry(1, 1001)}, logcore.ErrTooLarge},
		"too many":  {[]logcore.Entry{entry(1, 999), entry(2, 999), entry(3, 999)}, logcore.ErrTooLarge},
	} {
		if err := l.Submit(tt.entries, never); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", name, err, tt.want)
		}
	}
	if l.Last() != 0 {
		t.Fatalf("last is %d", l.Last())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Submit([]logcore.Entry{entry(1, 1)}, never); !errors.Is(err, logcore.ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
	if err := l.WaitDurable(context.Background(), 1); !errors.Is(err, logcore.ErrClosed) {
		t.Fatalf("WaitDurable after Close: %v", err)
	}
}

// A full queue refuses Submit and holds up Append, which goes on when there is room.
func TestBackPressure(t *testing.T) {
	d := simdisk.New(1)
	gate := make(chan struct{})
	o := simOptions()
	o.QueueBytesMax = segment.FrameBytes(o.EntryBytesMax)
	l, _, err := openOn(context.Background(), d, o, openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{}, 100)
	d.Hook = func(op simdisk.Op) error {
		if op.Kind == "sync" {
			entered <- struct{}{}
			<-gate
		}
		return nil
	}
	var order []logcore.LSN
	done := func(lsn logcore.LSN) func(error) {
		return func(err error) {
			if err != nil {
				t.Error(err)
			}
			order = append(order, lsn)
		}
	}
	if err := l.Submit([]logcore.Entry{entry(1, 30_000)}, done(1)); err != nil {
		t.Fatal(err)
	}
	<-entered // the disk is busy
	if err := l.Submit([]logcore.Entry{entry(2, 5_000)}, done(2)); err != nil {
		t.Fatal(err)
	}
	if err := l.Submit([]logcore.Entry{entry(3, 30_000)}, done(3)); !errors.Is(err, logcore.ErrOverloaded) {
		t.Fatalf("submit into a full queue: %v", err)
	}
	if l.Last() != 2 || l.Durable() != 0 {
		t.Fatalf("last %d, durable %d", l.Last(), l.Durable())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Append(ctx, []logcore.Entry{entry(3, 30_000)}); !errors.Is(err, logcore.ErrOverloaded) || !errors.Is(err, context.Canceled) {
		t.Fatalf("append into a full queue, canceled: %v", err)
	}
	result := make(chan error)
	go func() { result <- l.Append(context.Background(), []logcore.Entry{entry(3, 30_000)}) }()
	close(gate)
	if err := <-result; err != nil {
		t.Fatalf("append once there is room: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(order) != "[1 2]" {
		t.Fatalf("completed in the order %v", order)
	}
}

// All that waits while the disk is busy shares one write and one sync.
func TestOneSyncForAllWaiting(t *testing.T) {
	d := simdisk.New(1)
	o := simOptions()
	o.SegmentBytes = 1 << 20 // the batch is within the reach of the mark before it
	l, _, err := openOn(context.Background(), d, o, openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	l.writer.piece = 0
	gate, entered, syncs := make(chan struct{}), make(chan struct{}, 1), 0
	d.Hook = func(op simdisk.Op) error {
		if op.Kind == "sync" {
			if syncs++; syncs == 1 {
				entered <- struct{}{}
				<-gate
			}
		}
		return nil
	}
	var wait sync.WaitGroup
	for lsn := logcore.LSN(1); lsn <= 101; lsn++ {
		wait.Add(1)
		if err := l.Submit([]logcore.Entry{entry(lsn, 100)}, func(error) { wait.Done() }); err != nil {
			t.Fatal(err)
		}
		if lsn == 1 {
			<-entered
		}
	}
	close(gate)
	wait.Wait()
	barrier(l)
	if syncs != 2 { // one for the first, one for the hundred behind it
		t.Fatalf("%d syncs for 101 entries", syncs)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// Two logs that got the same entries in other batches hold the same bytes.
func TestSealedIsDeterministic(t *testing.T) {
	var images [2][][]byte
	for i, batch := range []int{1, 17} {
		o := testOptions(t.TempDir())
		o.CacheBytes = []int64{1, 1 << 20}[i]
		l := mustOpen(t, o)
		fill(t, l, 200, 40, batch)
		for _, s := range l.Segments()[:4] {
			span, err := l.Span(s.First, s.Last)
			if err != nil || !span.Sealed {
				t.Fatal(err)
			}
			images[i] = append(images[i], sealedBytes(t, l, s))
			if !bytes.HasPrefix(images[i][len(images[i])-1], span.Frames) {
				t.Fatal("span differs from the file")
			}
		}
	}
	for i := range images[0] {
		if !bytes.Equal(images[0][i], images[1][i]) {
			t.Fatalf("sealed segment %d differs", i)
		}
	}
}

// sealedBytes returns frames and footer of a sealed segment from its file.
func sealedBytes(t *testing.T, l *Log, s SegmentInfo) []byte {
	t.Helper()
	f, c, _, err := l.find(s.First)
	if err != nil {
		t.Fatal(err)
	}
	waitFinished(t, l)
	b := make([]byte, int(c.end-segment.FramesOffset)+f.sum.FooterBytes())
	if n, err := f.f.ReadAt(b, segment.FramesOffset); n < len(b) {
		t.Fatal(err)
	}
	return b
}

// waitFinished waits for the footers of all sealed segments that others follow.
func waitFinished(t testing.TB, l *Log) {
	t.Helper()
	view, deadline := *l.view.Load(), time.Now().Add(time.Minute)
	for i := 0; i < len(view)-1; {
		l.mu.Lock()
		finished := view[i].finished
		l.mu.Unlock()
		switch {
		case finished:
			i++
		case time.Now().After(deadline):
			t.Fatal("the finisher does not come to an end")
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

func TestWaitDurable(t *testing.T) {
	l := mustOpen(t, testOptions(t.TempDir()))
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 2)
	go func() { result <- l.WaitDurable(context.Background(), 3) }()
	go func() { result <- l.WaitDurable(ctx, 100) }()
	for lsn := logcore.LSN(1); lsn <= 3; lsn++ {
		mustAppend(t, l, entry(lsn, 10))
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A roll takes the file that was made ready in the background, and a trimmed
// segment's file is used again: nothing is allocated while a commit waits.
func TestPoolIsUsed(t *testing.T) {
	l := mustOpen(t, testOptions(t.TempDir()))
	for round := range logcore.LSN(20) {
		fill(t, l, (round+1)*10, 10, 10)
		barrier(l)
		if err := l.TrimHead(round * 10); err != nil {
			t.Fatal(err)
		}
	}
	names, err := l.dir.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) > 2+poolMax+1+1 { // live, pool, one on its way, LOCK
		t.Fatalf("20 rolls left %q", names)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := testOptions(t.TempDir())
	o.Registerer = reg
	l := mustOpen(t, o)
	fill(t, l, 25, 10, 5)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		found[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	// 25 entries in 5 submissions; the seals at 10 and 20 end batches.
	for name, want := range map[string]float64{"logcore_hotlog_commit_seconds": 5, "logcore_hotlog_durable_lsn": 25, "logcore_hotlog_batch_entries": 5} {
		if found[name] != want {
			t.Errorf("%s is %v, want %v", name, found[name], want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, o) // the names are free again
}

// Readers run beside the writer and see only what is durable.
func TestReadersBesideWriter(t *testing.T) {
	o := testOptions(t.TempDir())
	o.CacheBytes = 1 // one small chunk: much is read from the file
	l := mustOpen(t, o)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for at := logcore.LSN(1); ; {
				select {
				case <-stop:
					return
				default:
				}
				got, err := l.Entries(at, at+50, 20_000)
				var lag *logcore.LagError
				switch {
				case errors.As(err, &lag):
					at = 1
				case errors.Is(err, logcore.ErrTrimmed):
					at = l.First()
				case err != nil:
					t.Error(err)
					return
				}
				for _, e := range got {
					want := sealAt(entry(e.LSN, 300+int(e.LSN%50)), 40)
					if err := sameEntry(e, want); err != nil || e.LSN > l.Durable() {
						t.Errorf("durable %d: %v", l.Durable(), err)
						return
					}
					at = e.LSN + 1
				}
			}
		})
	}
	for last := logcore.LSN(50); last <= 1500; last += 50 {
		fill(t, l, last, 40, 9)
		if last%300 == 0 {
			if err := l.TrimHead(last - 200); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	readers.Wait()
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
}
