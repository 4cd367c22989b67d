package logsvc_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

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
	written := func(seq uint64) string { return fmt.Sprint("x", seq%2) }
	var places []*logcorev1.Appended
	for seq := uint64(1); seq <= 300; seq += 2 {
		resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(seq, written(seq)), newEntry(seq+1, written(seq+1))}})
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, resp.Entries...)
	}
	check := func(raw logcorev1.LogCoreServiceClient) {
		t.Helper()
		for _, seq := range []uint64{45, 46, 200, 299, 300} {
			resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(seq, written(seq))}})
			if err != nil {
				t.Fatalf("sequence %d again: %v", seq, err)
			}
			if got, want := resp.Entries[0], places[seq-1]; got.Lsn != want.Lsn || got.Time != want.Time {
				t.Fatalf("sequence %d again: %v, want %v", seq, got, want)
			}
		}
		_, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(44, written(44))}})
		for _, foreign := range []*logcorev1.NewEntry{newEntry(200, "of somebody else"), func() *logcorev1.NewEntry {
			e, tx := newEntry(200, written(200)), logcore.NewTxID()
			e.TransactionId = tx[:]
			return e
		}()} {
			_, ferr := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{foreign}})
			wantErr(t, "another transaction under a used sequence", wire.FromStatus(ferr), logcore.ErrSequenceReused)
		}
		wantErr(t, "older than the window", wire.FromStatus(err), logcore.ErrSequenceGap)
	}
	check(raw)
	n.stop()
	n = start(t, dir, "", logsvc.Options{}, replication.Options{})
	raw = n.raw()
	check(raw)
	// Half again, half new.
	resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(300, written(300)), newEntry(301, "new")}})
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
	_, err = raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(301, "new")}})
	wantErr(t, "retry after a takeover", wire.FromStatus(err), logcore.ErrFenced)
}

func TestLease(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{Lease: time.Second}, replication.Options{})
	c, raw, ctx := n.client(client.Options{}), n.raw(), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true, Name: "first"})
	// The writer is idle, but renews: for two leases nobody else gets the log.
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
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
	_, err = raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: 2, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(1, "x")}})
	wantErr(t, "append of the silent writer", wire.FromStatus(err), logcore.ErrFenced)
	_, err = raw.RenewWriter(ctx, &logcorev1.RenewWriterRequest{Log: "a", Epoch: 2, Incarnation: open.Incarnation})
	wantErr(t, "renewal of the silent writer", wire.FromStatus(err), logcore.ErrFenced)
	_, err = raw.CloseWriter(ctx, &logcorev1.CloseWriterRequest{Log: "a", Epoch: 2, Incarnation: open.Incarnation})
	wantErr(t, "close by the silent writer", wire.FromStatus(err), logcore.ErrFenced)
	for range 2 {
		if _, err := raw.CloseWriter(ctx, &logcorev1.CloseWriterRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation}); err != nil {
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
