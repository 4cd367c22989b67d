package logsvc_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// node is the whole service on a real listener, over a real directory.
type node struct {
	t     testing.TB
	dir   string
	addr  string
	group *replication.Group
	svc   *logsvc.Service
	grpc  *grpc.Server
	done  chan struct{}
}

// start starts a node; opts may lack Group. addr is empty for any port.
func start(t testing.TB, dir, addr string, opts logsvc.Options, group replication.Options) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	group.Log.Dir, group.Log.Logger = filepath.Join(dir, "shard-0"), quiet
	if group.Log.SegmentBytes == 0 {
		group.Log.SegmentBytes = 1 << 20
	}
	n := &node{t: t, dir: dir, done: make(chan struct{})}
	var err error
	if n.group, err = replication.Open(ctx, group); err != nil {
		t.Fatal(err)
	}
	opts.Group, opts.Logger = n.group, quiet
	if n.svc, err = logsvc.New(opts); err != nil {
		t.Fatal(err)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.grpc = grpc.NewServer(logsvc.ServerOptions(opts.EntryBytesMax)...)
	n.svc.Register(n.grpc)
	go func() { defer close(n.done); n.grpc.Serve(l) }()
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	if n.group == nil {
		return
	}
	n.svc.Close()
	n.grpc.Stop()
	<-n.done
	if err := n.group.Close(); err != nil {
		n.t.Error(err)
	}
	n.group = nil
}

func simple(t testing.TB) (*node, *client.Client) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{})
	return n, n.client(client.Options{})
}

func (n *node) client(opts client.Options) *client.Client {
	n.t.Helper()
	opts.Addr = n.addr
	c, err := client.Dial(context.Background(), opts)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// raw is the generated client, for what package client would never send.
func (n *node) raw() logcorev1.LogCoreServiceClient {
	n.t.Helper()
	conn, err := grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	return logcorev1.NewLogCoreServiceClient(conn)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openWriter(t testing.TB, c *client.Client, log string, opts client.WriterOptions) *client.Writer {
	t.Helper()
	w, err := c.OpenWriter(testContext(t), log, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w.Close(ctx)
	})
	return w
}

func mustAppend(t testing.TB, w *client.Writer, body string) client.Appended {
	t.Helper()
	a, err := w.AppendTx(testContext(t), logcore.TxID{}, [][]byte{[]byte(body)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func readLog(t testing.TB, c *client.Client, log string, opts client.ReadOptions) []client.LogEntry {
	t.Helper()
	entries, err := readLogErr(t, c, log, opts)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func readLogErr(t testing.TB, c *client.Client, log string, opts client.ReadOptions) (out []client.LogEntry, err error) {
	var through logcore.LSN
	for b, err := range c.Read(testContext(t), log, opts) {
		if err != nil {
			return out, err
		}
		for _, e := range b.Entries {
			if len(out) > 0 && e.LSN <= out[len(out)-1].LSN || e.LSN > b.Through || e.LSN <= through {
				t.Fatalf("LSN %d after %d, in a batch through %d after one through %d", e.LSN, out[len(out)-1].LSN, b.Through, through)
			}
			out = append(out, e)
		}
		through = b.Through
	}
	return out, nil
}

func bodies(entries []client.LogEntry) string {
	var out []string
	for _, e := range entries {
		out = append(out, string(e.Payload))
	}
	return strings.Join(out, " ")
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newEntry(sequence uint64, body string) *logcorev1.NewEntry {
	return &logcorev1.NewEntry{Sequence: sequence, Kind: logcorev1.EntryKind_ENTRY_KIND_DATA, Payload: []byte(body), PayloadCrc32C: crc32.Checksum([]byte(body), castagnoli)}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestAppendReadInfo(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "orders", client.WriterOptions{Name: "test", Create: true})
	first := mustAppend(t, w, "one")
	tx := logcore.NewTxID()
	commit, err := w.AppendTx(ctx, tx, [][]byte{[]byte("two-a"), []byte("two-b"), []byte("two-c")}, []byte("0/16"))
	if err != nil {
		t.Fatal(err)
	}
	other := openWriter(t, c, "other", client.WriterOptions{Create: true})
	mustAppend(t, other, "elsewhere")
	entries := readLog(t, c, "orders", client.ReadOptions{})
	if bodies(entries) != "one two-a two-b two-c" {
		t.Fatalf("read %q", bodies(entries))
	}
	kinds := []logcore.Kind{logcore.KindData, logcore.KindPart, logcore.KindPart, logcore.KindCommit}
	for i, e := range entries {
		if e.Kind != kinds[i] || e.Epoch != 1 || e.Sequence != uint64(i+1) || i > 0 && e.Tx != tx {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if entries[0].LSN != first.LSN || entries[3].LSN != commit.LSN || entries[3].Time != commit.Time || string(entries[3].Position) != "0/16" || w.LastLSN() != commit.LSN {
		t.Errorf("places: %+v, %+v, %+v", first, commit, entries)
	}
	info, err := c.Info(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if info.Entries != 4 || info.Bytes != 18 || info.LastLSN != commit.LSN || info.Epoch != 1 || info.Writer != "test" || info.Incarnation == 0 || info.Committed <= commit.LSN {
		t.Errorf("info %+v", info)
	}
	logs, err := c.Logs(ctx)
	if err != nil || len(logs) != 2 || logs[0].Log != "orders" || logs[1].Log != "other" {
		t.Errorf("logs %+v, %v", logs, err)
	}
	st, err := c.Status(ctx)
	if err != nil || !st.Healthy || len(st.Shards) != 1 || st.Logs != 2 || st.Shards[0].Committed < commit.LSN {
		t.Errorf("status %+v, %v", st, err)
	}
	if got := readLog(t, c, "orders", client.ReadOptions{Limit: 2}); bodies(got) != "one two-a" {
		t.Errorf("limit 2: %q", bodies(got))
	}
	if got := readLog(t, c, "orders", client.ReadOptions{From: entries[1].LSN, To: entries[2].LSN}); bodies(got) != "two-a two-b" {
		t.Errorf("range: %q", bodies(got))
	}
}

func TestBadOptions(t *testing.T) {
	if _, err := logsvc.New(logsvc.Options{EntryBytesMax: -1, Lease: -1}); !errors.Is(err, logcore.ErrInvalid) || strings.Count(err.Error(), "logsvc.Options") != 3 {
		t.Errorf("bad options: %v", err)
	}
	n, _ := simple(t)
	if _, err := logsvc.New(logsvc.Options{Group: n.group, EntryBytesMax: 17 << 20}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("entries larger than the hot log takes: %v", err)
	}
}

// TestLargestEntry: the default limit of 16 MiB is really taken, through everything.
func TestLargestEntry(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	if w.EntryBytesMax() != 16<<20 {
		t.Fatalf("limit %d", w.EntryBytesMax())
	}
	parts := [][]byte{make([]byte, 16<<20), make([]byte, 16<<20), []byte("end")}
	parts[0][1], parts[1][2] = 1, 2
	if _, err := w.AppendTx(ctx, logcore.TxID{}, parts, make([]byte, 256)); err != nil {
		t.Fatal(err)
	}
	for i, e := range readLog(t, c, "a", client.ReadOptions{}) {
		if string(e.Payload) != string(parts[i]) {
			t.Errorf("part %d differs", i)
		}
	}
}

func TestTypedErrors(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{EntryBytesMax: 1000, ReadWait: 50 * time.Millisecond}, replication.Options{})
	c, raw, ctx := n.client(client.Options{}), n.raw(), testContext(t)
	_, err := c.OpenWriter(ctx, "absent", client.WriterOptions{})
	wantErr(t, "open of an unknown log", err, logcore.ErrLogNotFound)
	_, err = c.OpenWriter(ctx, "bad name!", client.WriterOptions{Create: true})
	wantErr(t, "open of a bad name", err, logcore.ErrInvalid)
	_, err = c.Info(ctx, "absent")
	wantErr(t, "info", err, logcore.ErrLogNotFound)
	_, err = readLogErr(t, c, "absent", client.ReadOptions{})
	wantErr(t, "read", err, logcore.ErrLogNotFound)
	_, err = c.Flush(ctx, "absent")
	wantErr(t, "flush", err, logcore.ErrLogNotFound)

	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	a := mustAppend(t, w, "x")
	_, err = c.OpenWriter(ctx, "a", client.WriterOptions{})
	wantErr(t, "a second writer", err, logcore.ErrWriterActive)
	_, err = c.CreateLog(ctx, "a", "", 0)
	wantErr(t, "create again", err, logcore.ErrLogExists)
	_, err = w.AppendTx(ctx, logcore.TxID{}, [][]byte{make([]byte, 1001)}, nil)
	wantErr(t, "client-side limit", err, logcore.ErrTooLarge)
	_, err = w.AppendTx(ctx, logcore.TxID{}, [][]byte{nil}, make([]byte, 257))
	wantErr(t, "position", err, logcore.ErrInvalid)
	mustAppend(t, w, "the writer goes on")

	_, err = readLogErr(t, c, "a", client.ReadOptions{From: a.LSN + 1000})
	var lag *logcore.LagError
	if !errors.As(err, &lag) || lag.Asked != a.LSN+1000 || lag.Available < a.LSN {
		t.Errorf("read in the future: %v", err)
	}
	_, err = readLogErr(t, c, "a", client.ReadOptions{To: a.LSN + 1000})
	wantErr(t, "read to the future", err, logcore.ErrLSNInFuture)
	_, err = c.CreateLog(ctx, "b", "a", a.LSN+1000)
	wantErr(t, "branch in the future", err, logcore.ErrLSNInFuture)
	_, err = c.CreateLog(ctx, "b", "absent", a.LSN)
	wantErr(t, "branch of nothing", err, logcore.ErrLogNotFound)

	for what, c := range map[string]struct {
		req  *logcorev1.AppendRequest
		want error
	}{
		"too large":      {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(3, strings.Repeat("x", 1001))}}, logcore.ErrTooLarge},
		"gap":            {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(4, "x")}}, logcore.ErrSequenceGap},
		"gap inside":     {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(3, "x"), newEntry(5, "x")}}, logcore.ErrSequenceGap},
		"sequence 0":     {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(0, "x")}}, logcore.ErrSequenceGap},
		"no entries":     {&logcorev1.AppendRequest{Log: "a", Epoch: 1}, logcore.ErrInvalid},
		"newer epoch":    {&logcorev1.AppendRequest{Log: "a", Epoch: 2, Entries: []*logcorev1.NewEntry{newEntry(3, "x")}}, logcore.ErrFenced},
		"unknown log":    {&logcorev1.AppendRequest{Log: "z", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(3, "x")}}, logcore.ErrLogNotFound},
		"wrong checksum": {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{func() *logcorev1.NewEntry { e := newEntry(3, "x"); e.PayloadCrc32C++; return e }()}}, logcore.ErrInvalid},
		"kind":           {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{func() *logcorev1.NewEntry { e := newEntry(3, "x"); e.Kind = 5; return e }()}}, logcore.ErrInvalid},
		"part without a transaction": {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{func() *logcorev1.NewEntry {
			e := newEntry(3, "x")
			e.Kind = logcorev1.EntryKind_ENTRY_KIND_PART
			return e
		}()}}, logcore.ErrInvalid},
	} {
		_, err := raw.Append(ctx, c.req)
		wantErr(t, what, wire.FromStatus(err), c.want)
	}
	if got := bodies(readLog(t, n.client(client.Options{}), "a", client.ReadOptions{})); got != "x the writer goes on" {
		t.Errorf("refused appends left %q", got)
	}
}

// TestRetriedAppend: the same sequence again gets the same place, also after a restart,
// and is written once.
func TestRetriedAppend(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	ctx, raw := testContext(t), n.raw()
	open, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "a", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	var places []*logcorev1.Appended
	for seq := uint64(1); seq <= 300; seq += 2 {
		resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Entries: []*logcorev1.NewEntry{newEntry(seq, "x"), newEntry(seq+1, "y")}})
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, resp.Entries...)
	}
	check := func(raw logcorev1.LogCoreServiceClient) {
		t.Helper()
		for _, seq := range []uint64{45, 46, 200, 299, 300} {
			resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Entries: []*logcorev1.NewEntry{newEntry(seq, "again")}})
			if err != nil {
				t.Fatalf("sequence %d again: %v", seq, err)
			}
			if got, want := resp.Entries[0], places[seq-1]; got.Lsn != want.Lsn || got.Time != want.Time {
				t.Fatalf("sequence %d again: %v, want %v", seq, got, want)
			}
		}
		_, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Entries: []*logcorev1.NewEntry{newEntry(44, "again")}})
		wantErr(t, "older than the window", wire.FromStatus(err), logcore.ErrSequenceGap)
	}
	check(raw)
	n.stop()
	n = start(t, dir, "", logsvc.Options{}, replication.Options{})
	raw = n.raw()
	check(raw)
	// Half again, half new.
	resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Entries: []*logcorev1.NewEntry{newEntry(300, "again"), newEntry(301, "new")}})
	if err != nil || resp.Entries[0].Lsn != places[299].Lsn || resp.Entries[1].Lsn <= resp.Entries[0].Lsn {
		t.Fatalf("half again: %v, %v", resp, err)
	}
	entries := readLog(t, n.client(client.Options{}), "a", client.ReadOptions{})
	if len(entries) != 301 || string(entries[300].Payload) != "new" {
		t.Fatalf("%d entries", len(entries))
	}
	// A takeover ends it, also for what was written: the old writer is never answered.
	if _, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "a", Takeover: true}); err != nil {
		t.Fatal(err)
	}
	_, err = raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Entries: []*logcorev1.NewEntry{newEntry(301, "new")}})
	wantErr(t, "retry after a takeover", wire.FromStatus(err), logcore.ErrFenced)
}

func TestLease(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{Lease: 300 * time.Millisecond}, replication.Options{})
	c, raw, ctx := n.client(client.Options{}), n.raw(), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true, Name: "first"})
	// The writer is idle, but renews: for three leases nobody else gets the log.
	for until := time.Now().Add(900 * time.Millisecond); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		_, err := c.OpenWriter(ctx, "a", client.WriterOptions{})
		wantErr(t, "open while the writer renews", err, logcore.ErrWriterActive)
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{nil}, nil); !errors.Is(err, logcore.ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	// Given back: nobody waits.
	open, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "a"})
	if err != nil || open.Epoch != 2 {
		t.Fatalf("open after Close: %v, %v", open, err)
	}
	// This one is silent: after its lease the next one gets the log.
	for {
		open, err = raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "a"})
		if err == nil {
			break
		}
		wantErr(t, "open within the lease", wire.FromStatus(err), logcore.ErrWriterActive)
		time.Sleep(10 * time.Millisecond)
	}
	_, err = raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: 2, Entries: []*logcorev1.NewEntry{newEntry(1, "x")}})
	wantErr(t, "append of the silent writer", wire.FromStatus(err), logcore.ErrFenced)
	_, err = raw.RenewWriter(ctx, &logcorev1.RenewWriterRequest{Log: "a", Epoch: 2})
	wantErr(t, "renewal of the silent writer", wire.FromStatus(err), logcore.ErrFenced)
	_, err = raw.CloseWriter(ctx, &logcorev1.CloseWriterRequest{Log: "a", Epoch: 2})
	wantErr(t, "close by the silent writer", wire.FromStatus(err), logcore.ErrFenced)
	for range 2 {
		if _, err := raw.CloseWriter(ctx, &logcorev1.CloseWriterRequest{Log: "a", Epoch: open.Epoch}); err != nil {
			t.Errorf("close, and close again: %v", err)
		}
	}
}

// TestFencing (I4): writers take the log over from each other as fast as they can while
// all go on appending. In the log, no entry follows one of a newer epoch; what was acknowledged is there,
// at the place that was said; and an old writer learns that it is fenced.
func TestFencing(t *testing.T) {
	n, c := simple(t)
	ctx := testContext(t)
	openWriter(t, c, "a", client.WriterOptions{Create: true})
	type ack struct {
		client.Appended
		epoch logcore.Epoch
		body  string
	}
	var mu sync.Mutex
	var acks []ack
	fenced := 0
	var wg sync.WaitGroup
	for g := range 6 {
		own := n.client(client.Options{RetryFor: 5 * time.Second})
		wg.Go(func() {
			for round := range 12 {
				time.Sleep(rand.N(10 * time.Millisecond)) // let others write now and then
				w, err := own.OpenWriter(ctx, "a", client.WriterOptions{Takeover: true, Name: fmt.Sprint(g)})
				if err != nil {
					t.Error(err)
					return
				}
				var futures []*client.Future
				var sent []string
				for i := range 40 {
					body := fmt.Sprintf("%d/%d/%d", g, round, i)
					futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{[]byte(body)}, nil))
					sent = append(sent, body)
				}
				for i, f := range futures {
					a, err := f.Wait(ctx)
					mu.Lock()
					switch {
					case err == nil:
						acks = append(acks, ack{a, w.Epoch(), sent[i]})
					case errors.Is(err, logcore.ErrFenced):
						fenced++
					default:
						t.Errorf("append: %v", err)
					}
					mu.Unlock()
				}
				w.Close(ctx)
			}
		})
	}
	wg.Wait()
	byLSN := map[logcore.LSN]client.LogEntry{}
	var newest logcore.Epoch
	for _, e := range readLog(t, c, "a", client.ReadOptions{}) {
		if e.Epoch < newest {
			t.Fatalf("LSN %d of epoch %d follows epoch %d", e.LSN, e.Epoch, newest)
		}
		newest = e.Epoch
		byLSN[e.LSN] = e
	}
	for _, a := range acks {
		if e := byLSN[a.LSN]; string(e.Payload) != a.body || e.Epoch != a.epoch || e.Time != a.Time {
			t.Fatalf("acknowledged %+v, the log holds %+v", a, e)
		}
	}
	if len(acks) == 0 || fenced == 0 {
		t.Fatalf("void: %d acknowledged, %d fenced", len(acks), fenced)
	}
	t.Logf("%d acknowledged, %d fenced, %d epochs", len(acks), fenced, newest)
}

// TestFollow: a reader that follows while others append sees every entry of its log
// once, in order, and hears how far the shard is while its own log is quiet.
func TestFollow(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	noise := openWriter(t, c, "noise", client.WriterOptions{Create: true})
	const entries = 500
	var wg sync.WaitGroup
	var want []client.Appended
	wg.Go(func() {
		var futures []*client.Future
		for i := range entries {
			futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i)}, nil))
			noise.Submit(ctx, logcore.TxID{}, [][]byte{make([]byte, 2000)}, nil)
		}
		for _, f := range futures {
			a, err := f.Wait(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			want = append(want, a)
		}
	})
	var got []client.LogEntry
	var target logcore.LSN
	for b, err := range c.Read(ctx, "a", client.ReadOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Entries...)
		if len(got) == entries && target == 0 {
			wg.Wait()
			a, err := noise.AppendTx(ctx, logcore.TxID{}, [][]byte{nil}, nil)
			if err != nil {
				t.Fatal(err)
			}
			target = a.LSN
		}
		if target != 0 && b.Through >= target {
			// A heartbeat brought it: the entry is none of this log. Nothing is claimed
			// that isn't committed.
			if info, err := c.Info(ctx, "a"); err != nil || b.Through > info.Committed {
				t.Fatalf("through %d, committed %d, %v", b.Through, info.Committed, err)
			}
			break
		}
	}
	for i, e := range got {
		if string(e.Payload) != fmt.Sprint(i) || e.LSN != want[i].LSN {
			t.Fatalf("entry %d is %q at %d, want LSN %d", i, e.Payload, e.LSN, want[i].LSN)
		}
	}
	// With an end, a follow waits for it and stops.
	end := want[entries-1].LSN + 3
	done := make(chan int)
	go func() {
		n := 0
		for b, err := range c.Read(ctx, "a", client.ReadOptions{From: want[entries-2].LSN, To: end, Follow: true}) {
			if err != nil {
				t.Error(err)
			}
			n += len(b.Entries)
		}
		done <- n
	}()
	for range 4 {
		mustAppend(t, noise, "x")
	}
	if n := <-done; n != 2 {
		t.Errorf("%d entries up to LSN %d, want 2", n, end)
	}
}

func TestBranchAndTruncate(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "main", client.WriterOptions{Create: true})
	var at []logcore.LSN
	for i := range 6 {
		at = append(at, mustAppend(t, w, fmt.Sprint("m", i)).LSN)
	}
	if _, err := c.CreateLog(ctx, "branch", "main", at[2]); err != nil {
		t.Fatal(err)
	}
	b := openWriter(t, c, "branch", client.WriterOptions{})
	mustAppend(t, b, "b0")
	mustAppend(t, w, "m6")
	info, err := c.Info(ctx, "branch")
	if err != nil || info.Parent != "main" || info.BranchLSN != at[2] || info.Entries != 1 {
		t.Fatalf("info %+v, %v", info, err)
	}
	if _, err := c.CreateLog(ctx, "twig", "branch", info.LastLSN); err != nil {
		t.Fatal(err)
	}
	tw := openWriter(t, c, "twig", client.WriterOptions{})
	mustAppend(t, tw, "t0")
	mustAppend(t, b, "b1")
	for log, want := range map[string]string{"main": "m0 m1 m2 m3 m4 m5 m6", "branch": "m0 m1 m2 b0 b1", "twig": "m0 m1 m2 b0 t0"} {
		if got := bodies(readLog(t, c, log, client.ReadOptions{})); got != want {
			t.Errorf("%s reads %q, want %q", log, got, want)
		}
	}
	if got := bodies(readLog(t, c, "branch", client.ReadOptions{From: info.BranchLSN + 1})); got != "b0 b1" {
		t.Errorf("the branch's own: %q", got)
	}
	first, err := c.Truncate(ctx, "main", at[4])
	if err != nil || first != at[4] {
		t.Fatalf("truncate: %d, %v", first, err)
	}
	if first, err = c.Truncate(ctx, "main", at[1]); err != nil || first != at[4] {
		t.Errorf("truncate lower: %d, %v", first, err)
	}
	if got := bodies(readLog(t, c, "main", client.ReadOptions{})); got != "m4 m5 m6" {
		t.Errorf("truncated: %q", got)
	}
	_, err = readLogErr(t, c, "main", client.ReadOptions{From: at[3]})
	wantErr(t, "read of what was given up", err, logcore.ErrTrimmed)
	if got := bodies(readLog(t, c, "branch", client.ReadOptions{})); got != "m0 m1 m2 b0 b1" {
		t.Errorf("the branch after its parent was truncated: %q", got)
	}
	_, err = c.CreateLog(ctx, "late", "main", at[1])
	wantErr(t, "branch at what was given up", err, logcore.ErrTrimmed)
}

// TestRestart: everything acknowledged is there after a restart, and a client that was
// connected goes on by itself, the pipeline in its hands included.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	var futures []*client.Future
	for i := range 400 {
		futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i)}, nil))
		if i == 150 {
			n.stop()
			n = start(t, dir, n.addr, logsvc.Options{}, replication.Options{})
		}
	}
	for i, f := range futures {
		if _, err := f.Wait(ctx); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	entries := readLog(t, c, "a", client.ReadOptions{})
	if len(entries) != 400 {
		t.Fatalf("%d entries, want 400", len(entries))
	}
	for i, e := range entries {
		if string(e.Payload) != fmt.Sprint(i) || e.Sequence != uint64(i+1) {
			t.Fatalf("entry %d: %q, sequence %d", i, e.Payload, e.Sequence)
		}
	}
	if _, err := c.OpenWriter(ctx, "a", client.WriterOptions{}); !errors.Is(err, logcore.ErrWriterActive) {
		t.Errorf("a second writer after the restart: %v", err)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestOverloaded(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{QueueRequestsMax: 1, Log: hotlog.Options{}})
	c, raw, ctx := n.client(client.Options{}), n.raw(), testContext(t)
	openWriter(t, c, "a", client.WriterOptions{Create: true})
	// The loop stands still, so the queue of one fills.
	entered, leave := make(chan struct{}), make(chan struct{})
	if err := n.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { close(entered); <-leave; return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := n.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	_, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(1, "x")}})
	err = wire.FromStatus(err)
	var remote *wire.RemoteError
	if !errors.Is(err, logcore.ErrOverloaded) || !errors.As(err, &remote) || remote.Detail.RetryAfterMs == 0 {
		t.Errorf("overloaded: %v", err)
	}
	close(leave)
	w := openWriter(t, c, "b", client.WriterOptions{Create: true}) // retried until there is room
	mustAppend(t, w, "x")
}

// TestManyStreams: more streams than the shard's queue has places; nobody is refused for
// long and nothing is lost or doubled.
func TestManyStreams(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{QueueRequestsMax: 3})
	ctx := testContext(t)
	var wg sync.WaitGroup
	for g := range 12 {
		c := n.client(client.Options{})
		wg.Go(func() {
			w, err := c.OpenWriter(ctx, fmt.Sprint("log", g), client.WriterOptions{Create: true})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 300 {
				w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i)}, nil)
			}
			if err := w.Close(ctx); err != nil {
				t.Error(err)
			}
			i := 0
			for b, err := range c.Read(ctx, w.Log(), client.ReadOptions{}) {
				if err != nil {
					t.Error(err)
				}
				for _, e := range b.Entries {
					if string(e.Payload) != fmt.Sprint(i) {
						t.Errorf("log %d: entry %d is %q", g, i, e.Payload)
					}
					i++
				}
			}
			if i != 300 {
				t.Errorf("log %d: %d entries", g, i)
			}
		})
	}
	wg.Wait()
}

// TestReadEnds: a read that does not follow ends at what was committed when it began,
// however fast others append.
func TestReadEnds(t *testing.T) {
	_, c := simple(t)
	ctx, cancel := context.WithCancel(testContext(t))
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	for range 200 {
		w.Submit(ctx, logcore.TxID{}, [][]byte{make([]byte, 100<<10)}, nil)
	}
	first := mustAppend(t, w, "x")
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			w.AppendTx(ctx, logcore.TxID{}, [][]byte{make([]byte, 100<<10)}, nil)
		}
	})
	before, err := c.Info(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	var through, slowest logcore.LSN
	for b, err := range c.Read(ctx, "a", client.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if slowest == 0 { // the log grows under the reader
			for a := w.LastLSN(); w.LastLSN() < a+20; {
				time.Sleep(time.Millisecond)
			}
			slowest = w.LastLSN()
		}
		through = b.Through
	}
	if through < before.Committed || through < first.LSN || through >= slowest {
		t.Errorf("read through %d; %d was committed before, %d while it was under way", through, before.Committed, slowest)
	}
	cancel()
	wg.Wait()
}
