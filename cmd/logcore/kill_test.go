package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"
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
