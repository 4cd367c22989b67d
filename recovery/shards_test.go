package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// shardsWorld is a world with three shards.
func shardsWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.shards = 3
	w.start(w.dir, w.urls)
	return w
}

// flushAll archives every log.
func (w *world) flushAll() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	logs, err := w.client.Logs(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range logs {
		if _, err := w.client.Flush(ctx, l.Log); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) move(log string, to logcore.ShardID) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := w.client.MoveLog(ctx, log, to); err != nil {
		w.t.Fatal(err)
	}
}

// checkUntil is check of what was acknowledged up to a time.
func (w *world) checkUntil(at logcore.HLC) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	read := map[string][]client.LogEntry{}
	for _, want := range w.written {
		if want.at.Time > at {
			continue
		}
		if read[want.log] == nil {
			for b, err := range w.client.Read(ctx, want.log, client.ReadOptions{}) {
				if err != nil {
					w.t.Fatalf("%s: %v", want.log, err)
				}
				read[want.log] = append(read[want.log], b.Entries...)
			}
		}
		if len(read[want.log]) == 0 {
			w.t.Fatalf("log %s ends before LSN %d, time %v", want.log, want.at.LSN, want.at.Time)
		}
		if e := read[want.log][0]; e.LSN != want.at.LSN || e.Time != want.at.Time || string(e.Payload) != string(want.parts[0]) {
			w.t.Fatalf("log %s: LSN %d with time %v, want LSN %d with time %v", want.log, e.LSN, e.Time, want.at.LSN, want.at.Time)
		}
		read[want.log] = read[want.log][1:]
	}
	for log, rest := range read {
		if len(rest) > 0 {
			w.t.Fatalf("log %s: LSN %d, with time %v, is from after %v", log, rest[0].LSN, rest[0].Time, at)
		}
	}
}

// An LSN is no point in time of several shards: refused before anything is fetched or made.
func TestShardsAreNotRestoredToAnLSN(t *testing.T) {
	w := shardsWorld(t)
	w.write("a", 3, 100)
	w.flushAll()
	w.stop()
	o := w.options("restored")
	o.LSN = w.written[0].at.LSN
	report, err := recovery.Restore(context.Background(), o)
	if !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "give a time instead") {
		t.Fatalf("%v", err)
	}
	if report.ObjectsRead != 0 {
		t.Errorf("%d objects were read first", report.ObjectsRead)
	}
	if left, err := os.ReadDir(o.To); err == nil && len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// A time is one of all shards, for they share a clock: each log is as it was then, wherever it was, and nothing of later. Logs
// that moved after that are where they were; those that were about to come aren't there; what moves them goes on.
func TestShardsAreRestoredToATime(t *testing.T) {
	w := shardsWorld(t)
	for i := range 6 {
		w.write(fmt.Sprint("log", i), 3, 200)
	}
	w.move("log0", 2)
	w.write("log0", 2, 200)
	for i := range 6 {
		w.write(fmt.Sprint("log", i), 1, 200)
	}
	last := w.written[len(w.written)-1].at.Time
	waitPast(last)
	w.move("log0", 1)
	w.move("log1", 0)
	for i := range 6 {
		w.write(fmt.Sprint("log", i), 2, 200)
	}
	w.write("later", 1, 100)
	w.flushAll()
	w.stop()
	o := w.options("past")
	o.Time = last.Wall()
	report, err := recovery.Restore(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Fork || len(report.Shards) != 2 || len(report.Lost) != 0 || len(report.Logs) != 6 {
		t.Fatalf("%+v", report)
	}
	w.start(o.To, w.newTargets("new"))
	w.checkUntil(last)
	ctx := context.Background()
	if _, err := w.client.Info(ctx, "later"); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("a log from after the time: %v", err)
	}
	if info, err := w.client.Info(ctx, "log0"); err != nil || info.Shard != 2 || len(info.Extents) != 1 {
		t.Errorf("log0: %+v, %v", info, err)
	}
	w.written = nil
	w.move("log0", 0)
	w.write("log0", 1, 100)
	w.write("later", 1, 100)
}

// A shard that had no log yet at that time is there, and empty.
func TestShardsAreRestoredToATimeBeforeTheirFirstLog(t *testing.T) {
	w := shardsWorld(t)
	w.write("a", 1, 100) // one log is in one shard: the two others have none
	last := w.written[0].at.Time
	waitPast(last)
	for i := range 5 {
		w.write(fmt.Sprint("log", i), 1, 100)
	}
	w.flushAll()
	w.stop()
	o := w.options("past")
	o.Time = last.Wall()
	report, err := recovery.Restore(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Logs) != 1 {
		t.Fatalf("%+v", report.Logs)
	}
	w.start(o.To, w.newTargets("new"))
	w.checkUntil(last)
	w.written = nil
	for i := range 5 {
		w.write(fmt.Sprint("log", i), 1, 100)
	}
	// Before anything at all there is nothing to restore.
	o = w.options("before")
	o.Time = last.Wall().Add(-time.Hour)
	if _, err := recovery.Restore(context.Background(), o); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("before the first entry: %v", err)
	}
}

// The service ended before the archiver of one shard had written anything: that shard begins anew, and the others have
// what they had. Where only the manifest is lost, it does not.
func TestAShardOfWhichNothingWasArchived(t *testing.T) {
	w := shardsWorld(t)
	for i := range 6 {
		w.write(fmt.Sprint("log", i), 1, 100)
	}
	w.flushAll()
	for i := range 6 { // a second object in each shard
		w.write(fmt.Sprint("log", i), 1, 100)
	}
	w.flushAll()
	in := map[string]logcore.ShardID{}
	for i := range 6 {
		name := fmt.Sprint("log", i)
		info, err := w.client.Info(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		in[name] = info.Shard
	}
	w.stop()
	erase := func(what string) {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(w.root, "targets", "*", "lc1-*", "s00000002", what))
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	erase("manifest")
	if _, err := recovery.Restore(context.Background(), w.options("no")); !errors.Is(err, tiering.ErrNoArchive) || !strings.Contains(err.Error(), "manifest rebuild") {
		t.Fatalf("fragments without a manifest: %v", err)
	}
	erase("fragment")
	o := w.options("restored")
	report, err := recovery.Restore(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Shards) != 2 || report.Shards[1].Entries != 0 {
		t.Fatalf("%+v", report.Shards)
	}
	w.start(o.To, w.urls)
	all := w.written
	w.written = nil
	for _, x := range all {
		if in[x.log] != 2 {
			w.written = append(w.written, x)
		}
	}
	if len(w.written) == len(all) || len(w.written) == 0 {
		t.Fatalf("void: logs are in %v", in)
	}
	w.check(1 << 40)
	w.written = nil
	for i := range 9 { // those of the shard that is empty are created again, too
		w.write(fmt.Sprint("log", i), 1, 100)
	}
	w.flushAll()
}

// A log's old shard was archived less far than its new one: what is missing between is named.
func TestEntriesOfAnExtentThatWasNotArchived(t *testing.T) {
	w := shardsWorld(t)
	w.write("a", 3, 100)
	w.flushAll()
	ctx := context.Background()
	info, err := w.client.Info(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	to := (info.Shard + 1) % 3
	w.stop()
	// The old shard's archive stays as it is now.
	old := filepath.Join(w.root, "old")
	if err := os.CopyFS(old, os.DirFS(filepath.Join(w.root, "targets"))); err != nil {
		t.Fatal(err)
	}
	w.start(w.dir, w.urls)
	before := len(w.written)
	w.write("a", 4, 100)
	w.move("a", to)
	w.write("a", 2, 100)
	w.flushAll()
	w.stop()
	for _, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		at, err := filepath.Glob(filepath.Join(w.root, "targets", name, "lc1-*", fmt.Sprintf("s%08x", uint32(info.Shard))))
		if err != nil || len(at) != 1 {
			t.Fatal(at, err)
		}
		rel, err := filepath.Rel(filepath.Join(w.root, "targets"), at[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(at[0]), os.CopyFS(at[0], os.DirFS(filepath.Join(old, rel)))); err != nil {
			t.Fatal(err)
		}
	}
	o := w.options("restored")
	_, err = recovery.Restore(ctx, o)
	if !errors.Is(err, recovery.ErrApart) || !strings.Contains(err.Error(), "log a") || !strings.Contains(err.Error(), "--accept-loss") {
		t.Fatalf("restored from archives that don't fit together: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(o.To, "logsvc")); err == nil {
		t.Fatalf("it left a service: %v", left)
	}
	o.AcceptLoss = true
	report, err := recovery.Restore(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	lost := slices.DeleteFunc(report.Lost, func(l recovery.Loss) bool { return l.First == 1 }) // of a shard without logs, which was being archived when it was stopped
	if len(lost) != 1 || lost[0].Shard != uint32(info.Shard) || lost[0].First > w.written[before].at.LSN || lost[0].First <= w.written[before-1].at.LSN ||
		lost[0].Last < w.written[before+3].at.LSN || lost[0].Last >= w.written[before+4].at.LSN || !strings.Contains(lost[0].Reason, "log a") {
		t.Fatalf("lost: %+v; written %+v", lost, w.written)
	}
	w.start(o.To, w.urls)
	w.written = append(w.written[:before:before], w.written[before+4:]...)
	w.check(1 << 40)
	w.written = nil
	w.write("a", 1, 100)
}

// The archive of one shard is older than it was, by up to several moves of a log: the restore says so and names a time at which
// all shards fit; or nothing is missing from the log's midst. Never does a log come back with a hole, and nothing hangs.
func TestArchivesSeveralMovesApart(t *testing.T) {
	w := shardsWorld(t)
	ctx := context.Background()
	w.write("a", 2, 100)
	info, err := w.client.Info(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // something of its own in each shard
		w.write(fmt.Sprint("b", i), 1, 100)
	}
	const moments = 4
	var copies []string
	for i := range moments {
		if i > 0 {
			w.move("a", (info.Shard+logcore.ShardID(i))%3)
			w.write("a", 2, 100)
		}
		w.flushAll()
		w.stop()
		copies = append(copies, filepath.Join(w.root, fmt.Sprint("copy", i)))
		if err := os.CopyFS(copies[i], os.DirFS(filepath.Join(w.root, "targets"))); err != nil {
			t.Fatal(err)
		}
		waitPast(w.written[len(w.written)-1].at.Time)
		w.start(w.dir, w.urls)
	}
	w.stop()
	apart, whole := 0, 0
	for shard := range 3 {
		for m := range moments - 1 {
			name := fmt.Sprintf("shard-%d-of-%d", shard, m)
			for _, target := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
				if err := os.RemoveAll(filepath.Join(w.root, "targets", target)); err != nil {
					t.Fatal(err)
				}
				if err := os.CopyFS(filepath.Join(w.root, "targets", target), os.DirFS(filepath.Join(copies[moments-1], target))); err != nil {
					t.Fatal(err)
				}
				at, err := filepath.Glob(filepath.Join(w.root, "targets", target, "lc1-*", fmt.Sprintf("s%08x", shard)))
				if err != nil || len(at) != 1 {
					t.Fatal(at, err)
				}
				old := filepath.Join(copies[m], strings.TrimPrefix(at[0], filepath.Join(w.root, "targets")))
				if err := errors.Join(os.RemoveAll(at[0]), os.CopyFS(at[0], os.DirFS(old))); err != nil {
					t.Fatal(err)
				}
			}
			o := w.options(name)
			_, err := recovery.Restore(ctx, o)
			var to string
			if err != nil {
				if !errors.Is(err, recovery.ErrApart) {
					t.Fatalf("%s: %v", name, err)
				}
				apart++
				if m < moments-2 { // two moves and more
					accept := o
					accept.AcceptLoss = true
					if _, err := recovery.Restore(ctx, accept); !errors.Is(err, recovery.ErrApart) || strings.Contains(err.Error(), "--accept-loss") {
						t.Fatalf("%s, with losses: %v", name, err)
					}
				}
				_, rest, _ := strings.Cut(err.Error(), "--time ")
				to, _, _ = strings.Cut(rest, ")")
				if o.Time, err = time.Parse(time.RFC3339, to); err != nil {
					t.Fatalf("%s: no time: %v", name, err)
				}
				if _, err = recovery.Restore(ctx, o); err != nil {
					t.Fatalf("%s, to %s: %v", name, to, err)
				}
			} else {
				whole++
			}
			all, urls := w.written, w.urls
			if to != "" { // another history
				urls = w.newTargets("new-" + name)
			}
			w.start(o.To, urls)
			var got []client.LogEntry
			for b, err := range w.client.Read(ctx, "a", client.ReadOptions{}) {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got = append(got, b.Entries...)
			}
			n := 0
			for _, want := range all {
				if want.log == "a" && n < len(got) {
					if got[n].LSN != want.at.LSN || string(got[n].Payload) != string(want.parts[0]) {
						t.Fatalf("%s, to %q: entry %d is at LSN %d, want %d", name, to, n, got[n].LSN, want.at.LSN)
					}
					n++
				}
			}
			if n != len(got) || n < 2*m && shard == int(info.Shard+logcore.ShardID(m))%3 {
				t.Fatalf("%s, to %q: %d entries, %d of them known", name, to, len(got), n)
			}
			w.written = nil
			w.write("a", 1, 100)
			w.move("a", logcore.ShardID(shard+1)%3)
			w.stop()
			w.written = all
		}
	}
	if apart < 3 || whole < 1 {
		t.Errorf("void: %d were apart, %d were not", apart, whole)
	}
}

// waitPast returns when what is written from now on is in a later millisecond: a time to restore to is cut there.
func waitPast(last logcore.HLC) {
	for logcore.HLCAt(time.Now()) <= logcore.HLCAt(last.Wall().Add(2*time.Millisecond)) {
		time.Sleep(time.Millisecond)
	}
}
