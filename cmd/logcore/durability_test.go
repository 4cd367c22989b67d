package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/exit"
)

// A log that is acknowledged once it is archived: with no wait at all in between, what was
// acknowledged is in the archive.
func TestLogCreateDurability(t *testing.T) {
	p := startDev(t, filepath.Join(t.TempDir(), "lc"))
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	online("log", "create", "safe", "--durability", "quorum+archive").want(t, exit.OK, "created log safe")
	online("log", "create", "safe").want(t, exit.Server, "exists")
	online("log", "create", "odd", "--durability", "sometimes").want(t, exit.Usage, "quorum+archive")
	cliIn(t, strings.NewReader(strings.Repeat("line\n", 300)), "log", "append", "safe", "--lines", "--addr", p.addr).want(t, exit.OK)
	info := parse[logJSON](t, online("log", "info", "safe", "-o", "json").want(t, exit.OK))
	if info.Durability != "quorum+archive" || info.Entries != 300 || info.Archived < info.LastLSN {
		t.Errorf("%+v", info)
	}
	online("log", "info", "safe").want(t, exit.OK, "durability", "quorum+archive")
}

func TestKeyRotate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	cli(t, "key", "rotate", file).want(t, exit.Failure, "no such file")
	cli(t, "key", "generate", file).want(t, exit.OK)
	before := parse[struct {
		Keys    []string
		Current string
	}](t, cli(t, "key", "ls", file, "-o", "json").want(t, exit.OK))
	cli(t, "key", "rotate", file).want(t, exit.OK, "added key", "holds 2")
	after := parse[struct {
		Keys    []string
		Current string
	}](t, cli(t, "key", "ls", file, "-o", "json").want(t, exit.OK))
	if len(after.Keys) != 2 || after.Keys[0] != before.Current || after.Current != after.Keys[1] {
		t.Errorf("%+v, then %+v", before, after)
	}
	cli(t, "key", "ls", file).want(t, exit.OK, "KEY", after.Current)
}
