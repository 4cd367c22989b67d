package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/exit"
)

// TestShardsAreRestored: a service of several shards, with logs that have moved, is rebuilt from the targets alone: every
// shard, every log, and what moves them goes on.
func TestShardsAreRestored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	p := startDev(t, dir, "--shards", "3")
	at := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	write := func(log, text string) {
		t.Helper()
		cliIn(t, strings.NewReader(text+"\n"), "log", "append", log, "--addr", p.addr).want(t, exit.OK)
	}
	for i := range 6 {
		log := fmt.Sprint("log", i)
		at("log", "create", log).want(t, exit.OK)
		write(log, "one of "+log)
	}
	at("log", "move", "log0", "--to", "2").want(t, exit.OK, "moved log log0 to shard 2")
	at("log", "move", "log1", "--to", "0").want(t, exit.OK)
	at("log", "move", "log1", "--to", "2").want(t, exit.OK)
	at("log", "move", "log1", "--to", "3").want(t, exit.Code(4), "there is no shard 3")
	for i := range 6 {
		write(fmt.Sprint("log", i), fmt.Sprint("two of log", i))
	}
	for i := range 6 {
		at("log", "flush", fmt.Sprint("log", i)).want(t, exit.OK)
	}
	p.stop()
	// One shard's directory is lost: the service does not begin it anew.
	away := filepath.Join(t.TempDir(), "shard-1")
	if err := os.Rename(filepath.Join(dir, "logsvc", "shard-1"), away); err != nil {
		t.Fatal(err)
	}
	cli(t, "dev", "--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "").want(t, exit.Failure, "shard 1 of this member is lost")
	if err := os.RemoveAll(filepath.Join(dir, "logsvc")); err != nil {
		t.Fatal(err)
	}
	cli(t, "restore", "--dir", dir).want(t, exit.OK, "shard 1", "shard 2", "log5")
	p = startDev(t, dir)
	for i := range 6 {
		log := fmt.Sprint("log", i)
		write(log, "three of "+log)
		out := at("log", "read", log, "-o", "raw").want(t, exit.OK)
		if want := fmt.Sprintf("one of %[1]s\ntwo of %[1]s\nthree of %[1]s\n", log); out.out != want {
			t.Errorf("%s holds %q", log, out.out)
		}
	}
	at("log", "info", "log1").want(t, exit.OK, "shard              2", "before in shard 0")
	at("log", "move", "log1", "--to", "1").want(t, exit.OK)
	at("log", "create", "log6").want(t, exit.OK)
	p.stop()
}
