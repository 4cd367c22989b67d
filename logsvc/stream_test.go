package logsvc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// holdLoop makes the shard's loop stand still until leave is called.
func (n *node) holdLoop() (leave func()) {
	n.t.Helper()
	entered, left := make(chan struct{}), make(chan struct{})
	if err := n.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { close(entered); <-left; return nil }, Done: func(error) {}}); err != nil {
		n.t.Fatal(err)
	}
	<-entered
	return func() { close(left) }
}

// TestNothingBehindARefusedMessage: the messages behind a refused one are in the shard's
// queue already, and one of them would be valid by itself, because another call wrote what was missing
// in between. It is not written: the client has been told that nothing is, and uses the sequence again.
func TestNothingBehindARefusedMessage(t *testing.T) {
	n, _ := simple(t)
	ctx, raw := testContext(t), n.raw()
	open, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "a", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := raw.AppendStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	queued := func(want int) {
		t.Helper()
		for n.group.Status().Queued < want {
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
			time.Sleep(time.Millisecond)
		}
	}
	leave := n.holdLoop()
	send := func(seq uint64, body string) {
		t.Helper()
		if err := stream.Send(&logcorev1.AppendStreamRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(seq, body)}}); err != nil {
			t.Fatal(err)
		}
	}
	send(2, "refused: a gap")
	queued(1)
	between := make(chan error, 1)
	go func() {
		_, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(1, "between")}})
		between <- err
	}()
	queued(2)
	send(2, "late")
	queued(3)
	leave()
	_, err = stream.Recv()
	wantErr(t, "the gap", wire.FromStatus(err), logcore.ErrSequenceGap)
	if err := <-between; err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(2, "again")}}); err != nil {
		t.Fatal(err)
	}
	if got := bodies(readLog(t, n.client(client.Options{}), "a", client.ReadOptions{})); got != "between again" {
		t.Errorf("the log holds %q", got)
	}
}

// TestLeaseCountsFromTheStart: after a restart a silent writer keeps its log for one
// lease, from when the service is there, not from when somebody asks.
func TestLeaseCountsFromTheStart(t *testing.T) {
	const lease = 200 * time.Millisecond
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{Lease: lease}, replication.Options{})
	if _, err := n.raw().OpenWriter(testContext(t), &logcorev1.OpenWriterRequest{Log: "a", Create: true}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	n = start(t, dir, "", logsvc.Options{Lease: lease}, replication.Options{})
	time.Sleep(lease + lease/10)
	openWriter(t, n.client(client.Options{}), "a", client.WriterOptions{})
}

// TestPayloadFormat: a log of one format takes no writer of another one, nor one that does
// not say; nothing is written then, and the writer it has is not disturbed.
func TestPayloadFormat(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "db", client.WriterOptions{Create: true, PayloadFormat: "pages"})
	a := mustAppend(t, w, "page")
	if _, err := c.CreateLog(ctx, "branch", "db", a.LSN); err != nil {
		t.Fatal(err)
	}
	check := func(c *client.Client) {
		t.Helper()
		for _, log := range []string{"db", "branch"} {
			for _, format := range []string{"raw", ""} {
				_, err := c.OpenWriter(ctx, log, client.WriterOptions{Takeover: true, PayloadFormat: format})
				wantErr(t, fmt.Sprintf("writer of %q to log %q", format, log), err, logcore.ErrPayloadFormat)
			}
			if info, err := c.Info(ctx, log); err != nil || info.PayloadFormat != "pages" {
				t.Errorf("info of %q: %+v, %v", log, info, err)
			}
		}
		_, err := c.OpenWriter(ctx, "x", client.WriterOptions{Create: true, PayloadFormat: "No Such"})
		wantErr(t, "bad format", err, logcore.ErrInvalid)
		_, err = c.Info(ctx, "x")
		wantErr(t, "the refused log", err, logcore.ErrLogNotFound)
	}
	check(c)
	mustAppend(t, w, "goes on")
	n.stop()
	n = start(t, dir, n.addr, logsvc.Options{}, replication.Options{})
	check(n.client(client.Options{}))
	mustAppend(t, w, "goes on")
}

// gauge reads one of the service's metrics.
func gauge(t *testing.T, reg *prometheus.Registry, name string) int64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return int64(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestStagedBytes: many clients with large entries, by stream and by call, while nothing
// becomes durable: what the service lays out stays within its budget, the others wait,
// and nobody is refused.
func TestStagedBytes(t *testing.T) {
	const entry, clients, budget = 1 << 20, 20, 8 << 20
	reg := prometheus.NewRegistry()
	n := start(t, t.TempDir(), "", logsvc.Options{EntryBytesMax: entry, StagedBytesMax: budget, Registerer: reg}, replication.Options{})
	ctx := testContext(t)
	body := make([]byte, entry)
	var writers []*client.Writer
	for i := range clients {
		writers = append(writers, openWriter(t, n.client(client.Options{Timeout: time.Minute}), fmt.Sprint("log", i), client.WriterOptions{Create: true}))
	}
	leave := n.holdLoop()
	var futures []*client.Future
	unary := make(chan error, clients)
	raw := n.raw()
	for i, w := range writers {
		if i%2 == 0 {
			for range 4 {
				futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{body}, nil))
			}
			continue
		}
		go func() {
			_, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: w.Log(), Epoch: uint64(w.Epoch()), Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(1, string(body))}})
			unary <- err
		}()
	}
	// Seven fit: an entry takes a little more than its payload. Each stream stops at its first that waits.
	for waiting := int64(0); waiting < clients-7; waiting = gauge(t, reg, "logcore_staging_waiters") {
		if staged := gauge(t, reg, "logcore_staged_bytes"); staged > budget {
			t.Fatalf("%d bytes are staged, the budget is %d", staged, budget)
		}
		if ctx.Err() != nil {
			t.Fatalf("%d wait", waiting)
		}
		time.Sleep(time.Millisecond)
	}
	if staged := gauge(t, reg, "logcore_staged_bytes"); staged > budget || staged < budget/2 {
		t.Fatalf("%d bytes are staged, the budget is %d", staged, budget)
	}
	leave()
	for _, f := range futures {
		if _, err := f.Wait(ctx); err != nil {
			t.Error(err)
		}
	}
	for range clients / 2 {
		if err := <-unary; err != nil {
			t.Error(err)
		}
	}
	for gauge(t, reg, "logcore_staged_bytes") != 0 || gauge(t, reg, "logcore_staging_waiters") != 0 {
		if ctx.Err() != nil {
			t.Fatal("what was staged is not let go of")
		}
	}
}
