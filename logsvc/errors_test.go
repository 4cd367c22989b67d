package logsvc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

func TestBadOptions(t *testing.T) {
	if _, err := logsvc.New(logsvc.Options{EntryBytesMax: -1, Lease: -1}); !errors.Is(err, logcore.ErrInvalid) || strings.Count(err.Error(), "logsvc.Options") != 3 {
		t.Errorf("bad options: %v", err)
	}
	n, _ := simple(t)
	if _, err := logsvc.New(logsvc.Options{Group: n.group, EntryBytesMax: 17 << 20}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("entries larger than the hot log takes: %v", err)
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
		"too large":           {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(3, strings.Repeat("x", 1001))}}, logcore.ErrTooLarge},
		"gap":                 {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(4, "x")}}, logcore.ErrSequenceGap},
		"gap inside":          {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(3, "x"), newEntry(5, "x")}}, logcore.ErrSequenceGap},
		"sequence 0":          {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(0, "x")}}, logcore.ErrSequenceGap},
		"no entries":          {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation()}, logcore.ErrInvalid},
		"newer epoch":         {&logcorev1.AppendRequest{Log: "a", Epoch: 2, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(3, "x")}}, logcore.ErrFenced},
		"another incarnation": {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation() + 1, Entries: []*logcorev1.NewEntry{newEntry(3, "x")}}, logcore.ErrFenced},
		"no incarnation":      {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(3, "x")}}, logcore.ErrFenced},
		"unknown log":         {&logcorev1.AppendRequest{Log: "z", Epoch: 1, Entries: []*logcorev1.NewEntry{newEntry(3, "x")}}, logcore.ErrLogNotFound},
		"wrong checksum":      {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{func() *logcorev1.NewEntry { e := newEntry(3, "x"); e.PayloadCrc32C++; return e }()}}, logcore.ErrInvalid},
		"kind":                {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{func() *logcorev1.NewEntry { e := newEntry(3, "x"); e.Kind = 5; return e }()}}, logcore.ErrInvalid},
		"part without a transaction": {&logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{func() *logcorev1.NewEntry {
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

func TestOverloaded(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{QueueRequestsMax: 1, Log: hotlog.Options{}})
	c, raw, ctx := n.client(client.Options{}), n.raw(), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	// The loop stands still, so the queue of one fills.
	entered, leave := make(chan struct{}), make(chan struct{})
	if err := n.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { close(entered); <-leave; return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := n.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	_, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: 1, Incarnation: w.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(1, "x")}})
	err = wire.FromStatus(err)
	var remote *wire.RemoteError
	if !errors.Is(err, logcore.ErrOverloaded) || !errors.As(err, &remote) || remote.Detail.RetryAfterMs == 0 {
		t.Errorf("overloaded: %v", err)
	}
	close(leave)
	w = openWriter(t, c, "b", client.WriterOptions{Create: true}) // retried until there is room
	mustAppend(t, w, "x")
}
