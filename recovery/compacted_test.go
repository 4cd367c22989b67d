package recovery_test

import (
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/recovery"
)

// An archive from which a truncated log's entries were erased, out of segments that it
// shares with another log: what is left is read from it live, and restored into a hot log
// that is whole, opens twice, goes on, and is archived further.
func TestRestoreOfACompactedArchive(t *testing.T) {
	w := newWorld(t)
	w.maxAge, w.hotKeep = 50*time.Millisecond, 1
	w.start(w.dir, w.urls)
	for range 5 {
		w.write("orders", 12, 40<<10)
		w.write("notes", 4, 10<<10)
	}
	w.flush()
	cut := w.written[3*16+7].at.LSN + 1 // in the fourth round, behind a whole transaction
	if _, err := w.client.Truncate(ctx, "orders", cut); err != nil {
		t.Fatal(err)
	}
	w.flush()
	erased, saved := uint64(0), int64(0)
	for deadline := time.Now().Add(30 * time.Second); erased < 20; { // what the hot log still has is let be
		report, err := w.client.Compact(ctx, false, true)
		if err != nil {
			t.Fatal(err)
		}
		erased, saved = erased+report.Entries, saved+report.Saved
		if time.Now().After(deadline) {
			t.Fatalf("%d entries were erased: %+v", erased, report)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if saved < 20*20<<10 {
		t.Errorf("%d entries erased saved %d bytes", erased, saved)
	}
	w.written = slices.DeleteFunc(w.written, func(x written) bool { return x.log == "orders" && x.at.LSN < cut })
	w.check(1 << 62)
	before, err := w.client.Info(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	w.flush()
	w.stop()
	w.lose("a1", "c2")
	report, err := recovery.Restore(ctx, w.options("restored"))
	if err != nil || len(report.Lost) > 0 {
		t.Fatalf("%+v, %v", report.Lost, err)
	}
	check, err := inspect.Check(ctx, inspect.CheckOptions{Dir: recovery.ShardDir(report.To, 0), LogOf: catalog.LogOf})
	if err != nil || len(check.Problems)+len(check.Rotten) > 0 {
		t.Fatalf("%+v, %v", check, err)
	}
	for range 2 {
		w.start(report.To, w.urls)
		w.check(1 << 62)
		after, err := w.client.Info(ctx, "orders")
		if err != nil || after.Entries != before.Entries || after.Bytes != before.Bytes || after.FirstLSN != before.FirstLSN {
			t.Fatalf("before %+v, after %+v, %v", before, after, err)
		}
		w.write("orders", 5, 1000)
		w.write("notes", 5, 1000)
		w.flush()
		w.check(1 << 62)
		if before, err = w.client.Info(ctx, "orders"); err != nil {
			t.Fatal(err)
		}
		w.stop()
	}
}
