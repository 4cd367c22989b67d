package logsvc_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// gatedArchive archives when it is let, and counts how often it is asked.
type gatedArchive struct {
	spanArchive
	open    chan struct{} // one value lets one flush through; closed lets all
	flushes atomic.Int64
	fail    atomic.Bool
}

func (a *gatedArchive) Flush(ctx context.Context, shard logcore.ShardID, lsn logcore.LSN) error {
	a.flushes.Add(1)
	select {
	case <-a.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.fail.Load() {
		return errors.New("the targets are away")
	}
	return a.spanArchive.Flush(ctx, shard, lsn)
}

func startGated(t *testing.T) (*gatedArchive, *node) {
	t.Helper()
	a := &gatedArchive{open: make(chan struct{}, 1)}
	n := start(t, t.TempDir(), "", logsvc.Options{Archive: a}, replication.Options{})
	a.flush = func(lsn logcore.LSN) { a.archiveUpTo(t, n, lsn) }
	return a, n
}

// TestAcknowledgedWhenArchived: an entry of a quorum+archive log is acknowledged once the
// archive covers it and not before, on every way to append; other logs of the same
// connection are not held up.
func TestAcknowledgedWhenArchived(t *testing.T) {
	a, n := startGated(t)
	c, ctx := n.client(client.Options{}), testContext(t)
	for log, durability := range map[string]string{"safe": client.QuorumAndArchive, "fast": ""} {
		if _, err := c.Create(ctx, client.NewLog{Log: log, Durability: durability}); err != nil {
			t.Fatal(err)
		}
	}
	safe, fast := openWriter(t, c, "safe", client.WriterOptions{}), openWriter(t, c, "fast", client.WriterOptions{})
	future := safe.Submit(ctx, logcore.TxID{}, [][]byte{[]byte("one")}, nil)
	for i := range 20 {
		mustAppend(t, fast, fmt.Sprint(i)) // a round trip each: the safe one's would have come
	}
	if _, known, err := future.Poll(); known {
		t.Fatalf("acknowledged with nothing archived: %v", err)
	}
	a.open <- struct{}{}
	got, err := future.Wait(ctx)
	if err != nil || got.LSN == 0 || a.Covered(0) < got.LSN {
		t.Fatalf("%+v, %v, covered %d", got, err, a.Covered(0))
	}

	// The stream of one log, and the single call: the same.
	raw := n.raw()
	call := func(log string, sequence uint64, epoch logcore.Epoch, incarnation uint64) *logcorev1.AppendRequest {
		return &logcorev1.AppendRequest{Log: log, Epoch: uint64(epoch), Incarnation: incarnation, Entries: []*logcorev1.NewEntry{newEntry(sequence, "two")}}
	}
	unary := make(chan error, 1)
	req := call("safe", 2, safe.Epoch(), safe.Incarnation())
	go func() {
		resp, err := raw.Append(ctx, req)
		if err == nil && a.Covered(0) < logcore.LSN(resp.Entries[0].Lsn) {
			err = fmt.Errorf("acknowledged %d, covered %d", resp.Entries[0].Lsn, a.Covered(0))
		}
		unary <- err
	}()
	select {
	case err := <-unary:
		t.Fatalf("acknowledged with nothing archived: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	a.open <- struct{}{}
	if err := <-unary; err != nil {
		t.Fatal(err)
	}
	st, err := raw.AppendStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&logcorev1.AppendStreamRequest{Log: "safe", Epoch: uint64(safe.Epoch()), Incarnation: safe.Incarnation(), Entries: []*logcorev1.NewEntry{newEntry(3, "three")}}); err != nil {
		t.Fatal(err)
	}
	streamed := make(chan error, 1)
	go func() {
		resp, err := st.Recv()
		if err == nil && (resp.ThroughSequence != 3 || a.Covered(0) < logcore.LSN(resp.Entries[0].Lsn)) {
			err = fmt.Errorf("acknowledged %v, covered %d", resp, a.Covered(0))
		}
		streamed <- err
	}()
	select {
	case err := <-streamed:
		t.Fatalf("acknowledged with nothing archived: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	a.open <- struct{}{}
	if err := <-streamed; err != nil {
		t.Fatal(err)
	}
	if info, err := c.Info(ctx, "safe"); err != nil || info.Durability != client.QuorumAndArchive {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err := c.Info(ctx, "fast"); err != nil || info.Durability != client.Quorum {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestArchiveAcknowledgementsAreBatched: what gathers while one flush is under way is
// acknowledged by the next; a flush that fails is tried again.
func TestArchiveAcknowledgementsAreBatched(t *testing.T) {
	a, n := startGated(t)
	c, ctx := n.client(client.Options{}), testContext(t)
	if _, err := c.Create(ctx, client.NewLog{Log: "safe", Durability: client.QuorumAndArchive}); err != nil {
		t.Fatal(err)
	}
	w := openWriter(t, c, "safe", client.WriterOptions{})
	a.fail.Store(true)
	var futures []*client.Future
	for i := range 100 {
		futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{[]byte(fmt.Sprint(i))}, nil))
	}
	a.open <- struct{}{}
	for a.flushes.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	a.fail.Store(false)
	close(a.open)
	last := logcore.LSN(0)
	for i, f := range futures {
		got, err := f.Wait(ctx)
		if err != nil || got.LSN <= last || a.Covered(0) < got.LSN {
			t.Fatalf("append %d: %+v after %d, %v", i, got, last, err)
		}
		last = got.LSN
	}
	if n := a.flushes.Load(); n > 20 {
		t.Errorf("%d flushes for 100 appends that were under way together", n)
	}
}

// TestNoArchiveNoPromise: without targets nobody is promised the archive; a branch of a
// log that was promised it is promised it too.
func TestNoArchiveNoPromise(t *testing.T) {
	dir := t.TempDir()
	a := &gatedArchive{open: make(chan struct{})}
	close(a.open)
	n := start(t, dir, "", logsvc.Options{Archive: a}, replication.Options{})
	a.flush = func(lsn logcore.LSN) { a.archiveUpTo(t, n, lsn) }
	c, ctx := n.client(client.Options{}), testContext(t)
	if _, err := c.Create(ctx, client.NewLog{Log: "safe", Durability: client.QuorumAndArchive}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(ctx, client.NewLog{Log: "odd", Durability: "sometimes"}); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatal(err)
	}
	w := openWriter(t, c, "safe", client.WriterOptions{})
	at := mustAppend(t, w, "x")
	if _, err := c.CreateLog(ctx, "branch", "safe", at.LSN); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Info(ctx, "branch"); err != nil || info.Durability != client.QuorumAndArchive {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	n.stop()
	n = start(t, dir, "", logsvc.Options{}, replication.Options{})
	c = n.client(client.Options{})
	if _, err := c.Create(ctx, client.NewLog{Log: "other", Durability: client.QuorumAndArchive}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("created without an archive: %v", err)
	}
	if info, err := c.Info(ctx, "safe"); err != nil || info.Durability != client.QuorumAndArchive {
		t.Errorf("after a restart: %+v, %v", info, err)
	}
	w = openWriter(t, c, "safe", client.WriterOptions{})
	if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("y")}, nil); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("appended without an archive: %v", err)
	}
}
