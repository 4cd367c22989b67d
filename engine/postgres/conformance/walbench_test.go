//go:build postgres

package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/receiver"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/pageserver"
)

// memoryLog is a log in memory, which has what it is given at once.
type memoryLog struct {
	mu       sync.Mutex
	payloads [][]byte // guarded by mu
}

type doneAppend struct{ done chan struct{} }

func (a doneAppend) Done() <-chan struct{} { return a.done }
func (a doneAppend) Err() error            { return nil }

func (l *memoryLog) Tail(context.Context) ([]byte, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.payloads) == 0 {
		return nil, false, nil
	}
	return l.payloads[len(l.payloads)-1], true, nil
}

func (l *memoryLog) PartBytesMax() int { return 16 << 20 }

func (l *memoryLog) Submit(_ context.Context, parts [][]byte, _ []byte) receiver.Pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.payloads = append(l.payloads, parts...)
	done := make(chan struct{})
	close(done)
	return doneAppend{done}
}

// capturedLog is the log of a server: its base backup and, apart, its WAL.
type capturedLog struct {
	base, wal [][]byte
	walBytes  int
	records   int
}

// capture follows a server, as its synchronous standby, while work runs.
func capture(b *testing.B, s *server, work func()) capturedLog {
	b.Helper()
	log := &memoryLog{}
	r, err := receiver.New(receiver.Options{ConnString: s.connString(), Logger: slog.New(slog.DiscardHandler)}, log)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	c := connect(b, s.connString())
	await := func(what, sql string) {
		for deadline := time.Now().Add(2 * time.Minute); len(query(b, c, sql)) != 1; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("%s did not come", what)
			}
		}
	}
	await("the stream", "select 1 from pg_stat_replication where state = 'streaming'")
	query(b, c, "alter system set synchronous_standby_names = 'logcore'")
	query(b, c, "select pg_reload_conf()")
	await("the synchronous standby", "select 1 from pg_stat_replication where sync_state = 'sync'")
	work()
	end := walBytes(b, s.connString())
	await("the end", fmt.Sprintf("select 1 from pg_stat_replication where flush_lsn - '0/0'::pg_lsn >= %.0f", end))
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return cutCapture(b, log.payloads)
}

func cutCapture(b *testing.B, payloads [][]byte) (l capturedLog) {
	var d *wal.Decoder
	var rec wal.Record
	for _, raw := range payloads {
		p, err := payload.Decode(raw)
		if err != nil {
			b.Fatal(err)
		}
		if p.Kind != payload.KindWAL {
			l.base = append(l.base, raw)
			continue
		}
		if d == nil {
			if d, err = wal.NewDecoder(wal.Options{Start: p.Start, SegmentBytes: p.SegmentBytes}); err != nil {
				b.Fatal(err)
			}
		}
		l.wal, l.walBytes = append(l.wal, raw), l.walBytes+len(p.Content)
		d.Feed(p.Content)
		for err = d.Next(&rec); err == nil; err = d.Next(&rec) {
			l.records++
		}
		if !errors.Is(err, wal.ErrMore) {
			b.Fatal(err)
		}
	}
	return l
}

// recut returns the log with its WAL in pieces of at least so many bytes, which end between records: what a receiver that catches up makes of it.
func (l capturedLog) recut(b *testing.B, bytes int) capturedLog {
	out := capturedLog{base: l.base, walBytes: l.walBytes, records: l.records}
	var open payload.Payload
	for i, raw := range l.wal {
		p, err := payload.Decode(raw)
		if err != nil {
			b.Fatal(err)
		}
		if open.Content == nil {
			open = p
			open.Content = append([]byte(nil), p.Content...)
		} else {
			open.Content = append(open.Content, p.Content...)
		}
		if len(open.Content) >= bytes || i == len(l.wal)-1 {
			out.wal = append(out.wal, open.Append(nil))
			open.Content = nil
		}
	}
	return out
}

// walWorkloads are whose WAL is measured.
var walWorkloads = []struct {
	name     string
	settings []string
}{
	{"as it comes", nil},
	{"with LogCore's settings", []string{"full_page_writes=off"}},
}

// walSeconds is how long pgbench runs for each.
const walSeconds = 8

// benchPages measures what becomes of WAL in a page server, each step on its own: decoding, decoding into changes of pages, and ingest into a store, in
// megabytes of WAL per CPU second of this process; the base backup before it is not counted.
func benchPages(b *testing.B, f *figures) {
	for _, w := range walWorkloads {
		s := newServer(b, append([]string{"max_wal_size=20GB", "checkpoint_timeout=1h"}, w.settings...)...)
		pgbenchInit(b, s, 10, 100)
		query(b, connect(b, s.connString()), "checkpoint")
		live := capture(b, s, func() {
			run(b, binaries+"pgbench", "-n", "-c", "8", "-j", "2", "-T", strconv.Itoa(walSeconds), "-h", s.socket, "-p", strconv.Itoa(s.port), "-U", "postgres", "postgres")
		})
		s.stop(b)
		benchWAL(b, f, live, map[string]any{"workload": "TPC-B, " + w.name, "entries": "as the commits made them"})
		benchWAL(b, f, live.recut(b, 128<<10), map[string]any{"workload": "TPC-B, " + w.name, "entries": "of 128 KiB"})
	}
}

func benchWAL(b *testing.B, f *figures, l capturedLog, more map[string]any) {
	mb := float64(l.walBytes) / 1e6
	more["mb"], more["records"], more["payloads"], more["rounds"] = mb, l.records, len(l.wal), benchRounds
	steps := statesOf(b, l)
	var values [3][]float64
	var allocs [3]float64
	for range benchRounds {
		for i, work := range []func(){func() { decodeRecords(b, l) }, func() { decodeSteps(b, steps) }} {
			values[i] = append(values[i], mb/cpuOf(b, func() { allocs[i] = allocsOf(work) / float64(l.records) }))
		}
		source, s := ingestBase(b, l)
		work := func() {
			for _, p := range l.wal {
				source.Append("decode", logcore.KindData, logcore.TxID{}, p)
			}
			waitFor(b, s, source)
			s.Stop(b) // all of it is in files then
		}
		values[2] = append(values[2], mb/cpuOf(b, func() { allocs[2] = allocsOf(work) / float64(l.records) }))
	}
	for i, name := range []string{"pages.wal_records", "pages.wal_changes", "pages.wal_ingest"} {
		add := map[string]any{"allocs_per_record": allocs[i]}
		if name == "pages.wal_ingest" {
			add["goal"] = 150
		}
		f.add(name, median(values[i]), "MB of WAL per CPU second", with(more, add))
	}
}

func with(a, b map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range []map[string]any{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// allocsOf returns how many objects this process allocates meanwhile.
func allocsOf(work func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs)
}

// decodeRecords decodes the WAL into records, and no further.
func decodeRecords(b *testing.B, l capturedLog) {
	var d *wal.Decoder
	var r wal.Record
	n := 0
	for _, raw := range l.wal {
		p, err := payload.Decode(raw)
		if err == nil && d == nil {
			d, err = wal.NewDecoder(wal.Options{Start: p.Start, SegmentBytes: p.SegmentBytes})
		}
		if err != nil {
			b.Fatal(err)
		}
		d.Feed(p.Content)
		for d.Next(&r) == nil {
			n++
		}
	}
	if n != l.records {
		b.Fatalf("%d records, want %d", n, l.records)
	}
}

// decodeStep is a payload and the decoder's state before it.
type decodeStep struct{ state, payload []byte }

func statesOf(b *testing.B, l capturedLog) (steps []decodeStep) {
	var state []byte
	for i, p := range append(append([][]byte(nil), l.base...), l.wal...) {
		if i >= len(l.base) {
			steps = append(steps, decodeStep{state, p})
		}
		_, next, err := pages.Decoder{}.Decode(state, p)
		if err != nil {
			b.Fatal(err)
		}
		state = next
	}
	return steps
}

func decodeSteps(b *testing.B, steps []decodeStep) {
	for _, s := range steps {
		if _, _, err := (pages.Decoder{}).Decode(s.state, s.payload); err != nil {
			b.Fatal(err)
		}
	}
}

// ingestBase starts a page server that has the base backup, in files, and nothing left to do for it.
func ingestBase(b *testing.B, l capturedLog) (*enginetest.Source, *enginetest.Subject) {
	source := enginetest.NewSource(1)
	source.BatchEntries = 64
	source.Create("decode")
	for _, p := range l.base {
		source.Append("decode", logcore.KindData, logcore.TxID{}, p)
	}
	dir, err := os.MkdirTemp(b.TempDir(), "store")
	if err != nil {
		b.Fatal(err)
	}
	opts := pageserver.Options{Dir: dir, Source: source, Formats: engine.Only(pages.Decoder{}), Logger: slog.New(slog.DiscardHandler)}
	s := enginetest.Start(b, opts)
	waitFor(b, s, source)
	s.Stop(b)
	s = enginetest.Start(b, opts)
	waitFor(b, s, source)
	const pause, quiet, patience = 300 * time.Millisecond, 0.03, 20 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if cpuOf(b, func() { time.Sleep(pause) }) < quiet {
			break // its tables are compacted
		}
	}
	return source, s
}

func waitFor(b *testing.B, s *enginetest.Subject, source *enginetest.Source) {
	if _, err := s.WaitLSN(b.Context(), "decode", pageserver.ReadAt{LSN: source.Last(), Wait: time.Minute}); err != nil {
		b.Fatal(err)
	}
}
