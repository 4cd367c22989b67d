package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
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

// SIGKILL of a restore at random moments: what it leaves is nothing, and the next one
// does the whole work.
func TestRestoreKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	p := startDev(t, dir)
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	for i := range 6 {
		online("sqlite", "db", "-c", fmt.Sprintf("CREATE TABLE t%d AS WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 2000) SELECT hex(randomblob(400)) AS x FROM n", i)).want(t, exit.OK)
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
	killed := 0
	for n := 0; ; n++ {
		cmd := exec.Command(filepath.Join(binaries, "logcore"), "restore", "--dir", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if n < 10 {
			time.Sleep(time.Duration(10+rand.IntN(60)) * time.Millisecond)
			cmd.Process.Kill()
		}
		err := cmd.Wait()
		_, missing := os.Stat(filepath.Join(dir, "logsvc"))
		if err == nil {
			break
		}
		if cmd.ProcessState.ExitCode() >= 0 { // it was not killed
			t.Fatalf("restore %d: %v", n, err)
		}
		killed++
		if missing == nil {
			break // killed after it had published: done
		}
	}
	t.Logf("%d restores were killed", killed)
	cli(t, "verify", "--dir", dir).want(t, exit.OK)
	p = startDev(t, dir)
	online("sqlite", "db", "-o", "csv", "-c", "SELECT count(*) FROM t0; PRAGMA integrity_check").want(t, exit.OK, "2000", "ok")
	online("sqlite", "fork", "-o", "csv", "-c", "SELECT count(*) FROM t5").want(t, exit.OK, "2000")
	online("sqlite", "fork", "-c", "SELECT count(*) FROM t0").want(t, exit.Failure, "no such table")
	p.stop()
}
