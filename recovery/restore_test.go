package recovery_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

var ctx = context.Background()

// Everything, from 4 of 6 targets, frame by frame; then the service goes on with the
// same archive, under another incarnation.
func TestRestoreEverything(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 30, 60<<10)
	w.write("notes", 5, 100)
	w.write("orders", 10, 60<<10)
	w.flush()
	before, err := w.client.Info(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	was, err := w.client.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.lose("a1", "a2")
	report, err := recovery.Restore(ctx, w.options("restored"))
	if err != nil {
		t.Fatal(err)
	}
	original, restored := dump(t, recovery.ShardDir(w.dir, 0)), dump(t, recovery.ShardDir(report.To, 0))
	if len(restored) == 0 || !slices.Equal(original[:len(restored)], restored) {
		t.Errorf("the restored frames are not the original ones: %d of %d entries", len(restored), len(original))
	}
	footers := func(dir string) (list []string) {
		for _, line := range dumpLines(t, dir, "sha256=") {
			list = append(list, line[strings.Index(line, "sha256="):]) // the files may have other names
		}
		return list
	}
	if got, want := footers(recovery.ShardDir(report.To, 0)), footers(recovery.ShardDir(w.dir, 0)); len(got) == 0 || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("the restored footers are not the original ones: %q, %q", got, want)
	}
	if report.Fork || len(report.Lost) != 0 || len(report.Unfinished) != 0 || report.LastLSN != report.ArchivedLSN || len(report.Logs) != 2 ||
		report.Entries != uint64(len(restored)) || report.Segments < 2 || report.ObjectsRead == 0 || report.FragmentsRebuilt == 0 || len(report.Steps) != 5 {
		t.Errorf("report %+v", report)
	}
	if !slices.Equal(report.Unreachable, []string{"a1", "a2"}) {
		t.Errorf("unreachable %v", report.Unreachable)
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "lost         nothing") {
		t.Errorf("text %v:\n%s", err, text.String())
	}
	w.start(report.To, w.urls)
	w.check(before.Committed)
	after, err := w.client.Info(ctx, "orders")
	if err != nil || after.Incarnation == before.Incarnation || after.Entries != before.Entries {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	// The term is the archiver's fencing token: above that of the lost service, and of one
	// that had claimed the archive after it and written nothing.
	if is, err := w.client.Status(ctx); err != nil || is.Shards[0].Term < was.Shards[0].Term+2 {
		t.Errorf("term %d before, %d after, %v", was.Shards[0].Term, is.Shards[0].Term, err)
	}
	w.write("orders", 5, 1000)
	w.flush()
	w.check(1 << 62)
}

// At each of several points the restored history is exactly what was acknowledged up to
// there, and is a cluster of its own.
func TestRestorePointInTime(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 12, 40<<10)
	w.write("notes", 7, 5000)
	time.Sleep(5 * time.Millisecond) // so that a time lies between the two
	between := time.Now()
	time.Sleep(5 * time.Millisecond)
	w.write("orders", 12, 40<<10)
	w.flush()
	w.stop()
	id, err := cluster.Read(filepath.Join(w.dir, "logsvc"))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{3, 12, 20, 25} {
		at := w.written[n].at.LSN
		opts := w.options("at-" + at.String())
		opts.LSN = at
		report, err := recovery.Restore(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		if report.LastLSN != at || !report.Fork || report.ForkCluster == id.String() {
			t.Errorf("restored to %d: %+v", at, report)
		}
		if _, err := os.Stat(filepath.Join(report.To, ".restoring")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the work directory is left: %v", err)
		}
		if i%2 == 0 {
			w.start(report.To, w.newTargets("fork-"+at.String()))
			w.check(at)
			w.stop()
		}
	}
	opts := w.options("between")
	opts.Time = between
	report, err := recovery.Restore(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	if first, last := w.written[18].at.LSN, w.written[19].at.LSN; report.LastLSN < first || report.LastLSN >= last {
		t.Errorf("restored to LSN %d, the time lies in [%d, %d)", report.LastLSN, first, last)
	}
}

// A point in the middle of a transaction: its parts are there, nobody sees it, and the
// report names it.
func TestRestoreInsideATransaction(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 5, 3000) // the fifth is in three parts
	w.flush()
	w.stop()
	opts := w.options("restored")
	opts.LSN = w.written[4].at.LSN - 1
	report, err := recovery.Restore(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Unfinished) != 1 || report.Unfinished[0].Parts != 2 || report.Unfinished[0].Log != "orders" {
		t.Errorf("unfinished %+v", report.Unfinished)
	}
	w.start(report.To, w.newTargets("fork"))
	w.check(opts.LSN)
	w.write("orders", 2, 100) // the log goes on
}

func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 4, 1000)
	w.flush()
	w.stop()
	otherKey := filepath.Join(w.root, "other")
	if _, err := tiering.GenerateKeyFile(otherKey); err != nil {
		t.Fatal(err)
	}
	wrong, err := tiering.LoadKeyFile(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(w.root, "full")
	if err := os.MkdirAll(filepath.Join(full, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set  func(*recovery.Options)
		want error
		text string
	}{
		"a service is there":  {func(o *recovery.Options) { o.To = w.dir }, recovery.ErrNotEmpty, "logsvc"},
		"a file is there":     {func(o *recovery.Options) { o.To = full }, recovery.ErrNotEmpty, "something"},
		"LSN in the future":   {func(o *recovery.Options) { o.LSN = 1000 }, logcore.ErrLSNInFuture, "newest available"},
		"before anything":     {func(o *recovery.Options) { o.Time = time.Unix(1, 0) }, logcore.ErrTrimmed, "begins at LSN 1"},
		"a log that is not":   {func(o *recovery.Options) { o.Log = "nothing" }, logcore.ErrLogNotFound, "orders"},
		"the wrong key":       {func(o *recovery.Options) { o.Keys = wrong }, tiering.ErrKeyNotFound, "key file"},
		"no targets":          {func(o *recovery.Options) { o.Targets = nil }, logcore.ErrInvalid, "Targets"},
		"both points in time": {func(o *recovery.Options) { o.LSN, o.Time = 3, time.Now() }, logcore.ErrInvalid, "one point"},
		"another cluster":     {func(o *recovery.Options) { o.Cluster = [16]byte{1} }, tiering.ErrNoArchive, ""},
		"too few targets": {func(o *recovery.Options) {
			o.Targets = slices.Clone(o.Targets)
			for i := range 4 {
				o.Targets[i].Bucket = nil
			}
		}, tiering.ErrUnproven, "targets"},
	} {
		opts := w.options("restored")
		tc.set(&opts)
		_, err := recovery.Restore(ctx, opts)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v; want %v that says %q", name, err, tc.want, tc.text)
		}
		if _, err := os.Stat(filepath.Join(w.root, "restored", "logsvc")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was restored", name)
		}
	}
	// After all these the directory still takes a restore.
	if _, err := recovery.Restore(ctx, w.options("restored")); err != nil {
		t.Error(err)
	}
}

// Killed or cancelled at any step, it leaves nothing that looks restored, and the
// next one succeeds.
func TestRestoreBeginsAfresh(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 20, 60<<10)
	w.flush()
	w.stop()
	for _, step := range []string{"manifest", "rebuild", "verify"} {
		stopped, cancel := context.WithCancel(ctx)
		opts := w.options("restored")
		opts.Progress = func(p recovery.Progress) {
			if p.Step == step {
				cancel()
			}
		}
		if _, err := recovery.Restore(stopped, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %s: %v", step, err)
		}
		cancel()
		if _, err := os.Stat(filepath.Join(opts.To, "logsvc")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cancelled at %s: something was restored", step)
		}
	}
	// What a killed one leaves.
	left := filepath.Join(w.root, "restored", ".restoring", "logsvc", "shard-0")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "00000001.seg"), []byte("half a segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := recovery.Restore(ctx, w.options("restored"))
	if err != nil {
		t.Fatal(err)
	}
	w.start(report.To, w.urls)
	w.check(1 << 62)
}

// Three fragments of an object gone: what can't be had is named, and what is before it
// can.
func TestRestoreNamesWhatIsLost(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 3, 1000)
	w.flush()
	safe := w.written[2].at.LSN
	w.write("orders", 3, 1000)
	w.flush()
	w.stop()
	lost := 0
	err := filepath.WalkDir(filepath.Join(w.root, "targets"), func(path string, d fs.DirEntry, err error) error {
		// Fragments are named by their first LSN among others: those of the second flush.
		if err == nil && !d.IsDir() && strings.Contains(path, "/fragment/") && !strings.Contains(path, "/0000000000000001-") &&
			(strings.Contains(path, "/a1/") || strings.Contains(path, "/b1/") || strings.Contains(path, "/c1/")) {
			lost++
			return os.Remove(path)
		}
		return err
	})
	if err != nil || lost == 0 {
		t.Fatalf("%d fragments removed: %v", lost, err)
	}
	report, err := recovery.Restore(ctx, w.options("restored"))
	if !errors.Is(err, tiering.ErrTooFewFragments) || len(report.Lost) != 1 || report.Lost[0].First <= safe {
		t.Fatalf("%v, report %+v", err, report)
	}
	opts := w.options("restored")
	opts.LSN = report.Lost[0].First - 1
	if report, err = recovery.Restore(ctx, opts); err != nil || report.LastLSN < safe {
		t.Errorf("%v, restored to %d, want at least %d", err, report.LastLSN, safe)
	}
}
