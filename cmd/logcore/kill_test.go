package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/recovery"
)

// kills is how often the service and its writer are killed: with 0 failures in n kills
// the claim is a rate below 3/n.
const kills = 20

// SIGKILL of every process at a random moment, again and again on the same directory:
// after each one everything acknowledged is there, as acknowledged.
func TestKillLoop(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	if err := cleanDemoDir(dir); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := &demo{app: &app{stdio: stdio{out: &out, err: &out}}, flags: demoFlags{characters: 500}, dir: dir, exe: filepath.Join(binaries, "logcore")}
	d.cloud = dirCloud{targets: filepath.Join(dir, "lc", "targets")}
	defer d.end()
	tell := func(name string, f func(context.Context) error) {
		t.Helper()
		d.began = time.Now()
		if err := f(ctx); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out.String())
		}
	}
	tell("start", d.start)
	tell("load", d.load)
	for n := range kills {
		tell("work", func(ctx context.Context) error { return d.workUntilKilled(ctx, fmt.Sprint(n+1), 5, 0) })
		tell("restart", d.crashAndRestart)
	}
	if err := d.service.stop(); err != nil {
		t.Error(err)
	}
	if len(d.acks) < d.result.LoadTx+5*kills {
		t.Errorf("only %d transactions: the run did less than its minimum", len(d.acks))
	}
	t.Logf("%d kills, %d transactions acknowledged, 0 lost", kills, len(d.acks))
}

// SIGKILL of a restore at random moments: what it leaves is no service, and the next one goes
// on with every object that it had fetched.
func TestRestoreKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	p := startDev(t, dir)
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	for i := range 6 {
		online("sqlite", "db", "-c", fmt.Sprintf("CREATE TABLE t%d AS WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 2000) SELECT hex(randomblob(400)) AS x FROM n", i)).want(t, exit.OK)
		online("log", "flush", "db").want(t, exit.OK) // an object of its own
	}
	online("branch", "create", "db", "fork").want(t, exit.OK)
	online("sqlite", "fork", "-c", "DROP TABLE t0").want(t, exit.OK)
	online("log", "flush", "fork").want(t, exit.OK)
	p.stop()
	for _, gone := range []string{"logsvc", "pageserver", "targets/a1", "targets/b1"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	killed, kept := 0, 0
	for n := 0; ; n++ {
		cmd := exec.Command(filepath.Join(binaries, "logcore"), "restore", "--dir", dir, "--memory", "1MiB", "-o", "json")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if n < 10 {
			// At a random moment, and ever later: after it has fetched one more object.
			for end := time.Now().Add(time.Second); len(fetchedObjects(t, dir)) <= n/2 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			cmd.Process.Kill()
		}
		err := cmd.Wait()
		_, missing := os.Stat(filepath.Join(dir, "logsvc"))
		if err == nil {
			var report recovery.Report
			if err := json.Unmarshal(out.Bytes(), &report); err != nil {
				t.Fatalf("%v: %s", err, &out)
			}
			if report.ObjectsResumed != kept || report.ObjectsRead < kept {
				t.Errorf("%d of %d objects were resumed, %d had been fetched before it", report.ObjectsResumed, report.ObjectsRead, kept)
			}
			break
		}
		fetched := fetchedObjects(t, dir)
		if missing != nil && len(fetched) < kept {
			t.Errorf("restore %d left %d objects, there were %d before it", n, len(fetched), kept)
		}
		kept = len(fetched)
		if cmd.ProcessState.ExitCode() >= 0 { // it was not killed
			t.Fatalf("restore %d: %v", n, err)
		}
		killed++
		if missing == nil {
			break // killed after it had published: done
		}
	}
	t.Logf("%d restores were killed, the last one went on with %d objects", killed, kept)
	cli(t, "verify", "--dir", dir).want(t, exit.OK)
	p = startDev(t, dir)
	online("sqlite", "db", "-o", "csv", "-c", "SELECT count(*) FROM t0; PRAGMA integrity_check").want(t, exit.OK, "2000", "ok")
	online("sqlite", "fork", "-o", "csv", "-c", "SELECT count(*) FROM t5").want(t, exit.OK, "2000")
	online("sqlite", "fork", "-c", "SELECT count(*) FROM t0").want(t, exit.Failure, "no such table")
	p.stop()
}

// fetchedObjects returns the objects that interrupted restores into a directory have fetched.
func fetchedObjects(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, ".restoring", "objects", "lc1-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
