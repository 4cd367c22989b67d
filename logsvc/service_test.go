package logsvc_test

import (
	"context"
	"errors"
	"hash/crc32"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/patience"
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
	patience.Return(n.t, "the service closes", n.svc.Close)
	n.grpc.Stop()
	patience.Receive(n.t, "the server stops", n.done)
	if err := patience.Return(n.t, "the group closes", n.group.Close); err != nil {
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
func (n *node) raw() logcorev1.LogCoreServiceClient { return rawClient(n.t, n.addr) }

// rawClient is raw for a service at an address.
func rawClient(t testing.TB, addr string) logcorev1.LogCoreServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
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
