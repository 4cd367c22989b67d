package logsvc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// TestBranchGoesAndComesBack: a branch is deleted and reset over the wire; its writer is
// asked first, and fenced for good.
func TestBranchGoesAndComesBack(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	first := mustAppend(t, w, "one")
	last := mustAppend(t, w, "two")
	if _, err := c.CreateLog(ctx, "db/b", "db", first.LSN); err != nil {
		t.Fatal(err)
	}
	old := openWriter(t, c, "db/b", client.WriterOptions{EndOnFailure: true})
	mustAppend(t, old, "on the branch")
	if err := c.DeleteBranch(ctx, "db/b", false); !errors.Is(err, logcore.ErrWriterActive) {
		t.Fatalf("deleted under a living writer: %v", err)
	}
	before, err := c.Info(ctx, "db/b")
	if err != nil || !before.WriterOpen {
		t.Fatalf("%+v, %v", before, err)
	}
	id, lsn, err := c.ResetBranch(ctx, "db/b", 0, true)
	if err != nil || id == before.ID || lsn != last.LSN {
		t.Fatalf("reset: id %d at LSN %d, %v; want another than %d at %d", id, lsn, err, before.ID, last.LSN)
	}
	if got := bodies(readLog(t, c, "db/b", client.ReadOptions{})); got != "one two" {
		t.Errorf("the new branch holds %q", got)
	}
	fresh := openWriter(t, c, "db/b", client.WriterOptions{})
	mustAppend(t, fresh, "new")
	if _, err := old.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("from the past")}, nil); err == nil {
		t.Error("the old branch's writer writes to the new one")
	}
	if got := bodies(readLog(t, c, "db/b", client.ReadOptions{})); got != "one two new" {
		t.Errorf("the new branch holds %q", got)
	}
	lease, err := c.AcquireLease(ctx, "db/b", 0, time.Minute, "reader-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteBranch(ctx, "db/b", true); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "reader-1") {
		t.Errorf("deleted under a lease: %v", err)
	}
	if err := c.ReleaseLease(ctx, "db/b", lease.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteBranch(ctx, "db/b", true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(ctx, "db/b"); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("after it was deleted: %v", err)
	}
	if err := c.DeleteBranch(ctx, "db", true); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("a log that is no branch: %v", err)
	}
}

// TestHistoriesSurvive: windows, leases, holds and horizons are there after a restart, and
// mean what they meant.
func TestHistoriesSurvive(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	var at []logcore.LSN
	for range 6 {
		at = append(at, mustAppend(t, w, "x").LSN)
	}
	if err := c.SetHistoryWindow(ctx, "db", time.Hour, 1<<30); err != nil {
		t.Fatal(err)
	}
	lease, err := c.AcquireLease(ctx, "db", at[1], time.Minute, "replica")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.HoldHistory(ctx, "db", "audit", at[4]); err != nil {
		t.Fatal(err)
	}
	info, err := c.Info(ctx, "db")
	if err != nil {
		t.Fatal(err)
	}
	horizon, err := c.AdvanceHorizon(ctx, info.ID, info.Incarnation, at[5])
	if err != nil || horizon != at[4] {
		t.Fatalf("the horizon is %d (%v), want %d, where the hold stops it", horizon, err, at[4])
	}
	if _, err := c.AdvanceHorizon(ctx, info.ID, info.Incarnation+1, at[5]); !errors.Is(err, logcore.ErrFenced) {
		t.Errorf("a page server with another history: %v", err)
	}
	n.stop()
	start(t, dir, n.addr, logsvc.Options{}, replication.Options{})
	if info, err = c.Info(ctx, "db"); err != nil || info.HorizonLSN != at[4] || info.Window != time.Hour || info.WindowBytes != 1<<30 {
		t.Fatalf("after the restart: %+v, %v", info, err)
	}
	all, err := c.Histories(ctx)
	if err != nil || len(all.Leases) != 1 || all.Leases[0].LSN != at[1] || all.Leases[0].Holder != "replica" || len(all.Holds) != 1 || len(all.Logs) != 1 {
		t.Fatalf("after the restart: %+v, %v", all, err)
	}
	if _, err := c.RenewLease(ctx, "db", lease.ID, 0); err != nil {
		t.Errorf("renew: %v", err)
	}
	if _, err := c.AcquireLease(ctx, "db", at[2], 0, ""); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("a lease below the horizon: %v", err)
	}
	if err := c.ReleaseLease(ctx, "db", lease.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RenewLease(ctx, "db", lease.ID, 0); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("renew what was given back: %v", err)
	}
	if err := c.HoldHistory(ctx, "db", "audit", 0); err != nil {
		t.Fatal(err)
	}
	if horizon, err = c.AdvanceHorizon(ctx, info.ID, info.Incarnation, at[5]); err != nil || horizon != at[5] {
		t.Fatalf("without the hold: %d, %v", horizon, err)
	}
}

// TestLeasesEnd: a lease that ran out goes also where nothing else happens.
func TestLeasesEnd(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{TrimEvery: 10 * time.Millisecond}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	at := mustAppend(t, openWriter(t, c, "db", client.WriterOptions{Create: true}), "x").LSN
	for _, ttl := range []time.Duration{time.Second, time.Hour} {
		if _, err := c.AcquireLease(ctx, "db", at, ttl, ttl.String()); err != nil {
			t.Fatal(err)
		}
	}
	for {
		all, err := c.Histories(ctx)
		if err != nil {
			t.Fatal(err) // or it did not end in time
		}
		if len(all.Leases) == 1 && all.Leases[0].Holder == time.Hour.String() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestIngestDebt: what page servers say of themselves reaches the writer.
func TestIngestDebt(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	big := strings.Repeat("x", 8<<20)
	var last client.Appended
	for range 12 {
		last = mustAppend(t, w, big)
	}
	info, err := c.Info(ctx, "db")
	if err != nil || info.Ingest != nil || w.AdvisedPause() != 0 {
		t.Fatalf("nobody said anything: %+v, %v, %v", info.Ingest, w.AdvisedPause(), err)
	}
	report := func(server uint64, lsn logcore.LSN, bytes uint64, stopped string) *client.IngestDebt {
		t.Helper()
		if err := c.ReportIngest(ctx, server, info.Incarnation, []client.IngestReport{{Log: info.ID, Ingested: lsn, Bytes: bytes, Stopped: stopped}}); err != nil {
			t.Fatal(err)
		}
		i, err := c.Info(ctx, "db")
		if err != nil || i.Ingest == nil {
			t.Fatalf("%+v, %v", i, err)
		}
		return i.Ingest
	}
	if d := report(1, last.LSN, 12*8<<20, ""); d.BehindBytes != 0 || d.BehindLSNs != 0 || d.AdvisedPause != 0 {
		t.Errorf("up to date: %+v", d)
	}
	// The slowest counts.
	d := report(2, last.LSN-3, 8<<20, "")
	if d.BehindBytes != 11*8<<20 || d.BehindLSNs != 3 || d.AdvisedPause <= 0 || d.AdvisedPause > time.Second {
		t.Errorf("behind: %+v", d)
	}
	mustAppend(t, w, "small")
	if w.AdvisedPause() != d.AdvisedPause {
		t.Errorf("the writer is advised %v, Info says %v", w.AdvisedPause(), d.AdvisedPause)
	}
	if d := report(2, last.LSN-3, 8<<20, "bad entry"); d.Stopped != "bad entry" || d.AdvisedPause != 0 {
		t.Errorf("stopped, waiting does not help: %+v", d)
	}
	report(2, last.LSN, 12*8<<20, "")
	mustAppend(t, w, "small")
	if w.AdvisedPause() != 0 {
		t.Errorf("still advised %v", w.AdvisedPause())
	}
	// Of another incarnation nothing counts.
	if err := c.ReportIngest(ctx, 3, info.Incarnation+1, []client.IngestReport{{Log: info.ID}}); err != nil {
		t.Fatal(err)
	}
	if i, err := c.Info(ctx, "db"); err != nil || i.Ingest.IngestedLSN != last.LSN {
		t.Errorf("a page server of another incarnation counts: %+v, %v", i.Ingest, err)
	}
}
