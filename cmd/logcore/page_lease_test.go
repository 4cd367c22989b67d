package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
)

// TestPageLeases: a lease is taken, listed, renewed, outlives a restart, and is given back.
func TestPageLeases(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	p := startDev(t, dir)
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	online("sqlite", "shop", "-c", "CREATE TABLE item(name); INSERT INTO item VALUES ('tea')").want(t, exit.OK)
	first := parse[logJSON](t, online("log", "info", "shop", "-o", "json"))
	added := parse[leaseJSON](t, online("page", "lease", "add", "shop", "--ttl", "1h", "--holder", "me", "-o", "json").want(t, exit.OK))
	if added.LSN != first.LastLSN || added.TTLMs != time.Hour.Milliseconds() || added.Log != "shop" {
		t.Errorf("%+v, the log ends at LSN %d", added, first.LastLSN)
	}
	online("page", "lease", "add", "shop", "--lsn", first.LastLSN.String()).want(t, exit.OK, "runs for", "1m0s")
	list := parse[[]leaseJSON](t, online("page", "lease", "ls", "-o", "json").want(t, exit.OK))
	if len(list) != 2 || list[0].LSN != added.LSN || list[0].Expires == "" {
		t.Errorf("%+v", list)
	}
	online("page", "lease", "ls", "shop").want(t, exit.OK, "HOLDER", "me", added.Lease)
	online("page", "sources").want(t, exit.OK, p.addr, "answers", "not read by this page server")
	online("page", "logs", "shop").want(t, exit.OK, "BEHIND", "log service", "following")
	for name, args := range map[string][]string{"no lease": {"rm", "shop", "xyz"}, "two points": {"add", "shop", "--lsn", "1", "--time", "2020-01-01T00:00:00Z"}, "too long": {"add"}} {
		if r := online(append([]string{"page", "lease"}, args...)...); r.code != exit.Usage {
			t.Errorf("%s: exit code %d\n%s", name, r.code, r.err)
		}
	}
	if r := online("page", "lease", "ls", "none"); r.code == exit.OK {
		t.Error("the leases of a log that there isn't")
	}
	if r := online("page", "lease", "add", "shop", "--ttl", "48h"); r.code == exit.OK {
		t.Error("a lease of two days")
	}

	// One that is kept is renewed beyond its time, and given back when the command is interrupted.
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	kept := make(chan exit.Code, 1)
	go func() {
		args := []string{"page", "lease", "add", "shop", "--renew", "--ttl", "1s", "--holder", "kept", "--addr", p.addr}
		kept <- run(ctx, args, stdio{strings.NewReader(""), io.Discard, io.Discard}, func(string) string { return "" })
	}()
	expires := map[string]bool{}
	for begun := time.Now(); len(expires) < 3; time.Sleep(100 * time.Millisecond) {
		for _, l := range parse[[]leaseJSON](t, online("page", "lease", "ls", "-o", "json").want(t, exit.OK)) {
			if l.Holder == "kept" {
				expires[l.Expires] = true
			}
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("not renewed: %v", expires)
		}
	}
	interrupt()
	if code := <-kept; code != exit.OK {
		t.Errorf("interrupted: exit code %d", code)
	}
	if out := online("page", "lease", "ls").want(t, exit.OK).out; strings.Contains(out, "kept") {
		t.Errorf("not given back:\n%s", out)
	}

	// Leases outlive a restart.
	p.stop()
	p = startDev(t, dir)
	online("page", "lease", "ls").want(t, exit.OK, added.Lease)
	online("sqlite", "shop", "--lsn", added.LSN.String(), "-o", "csv", "-c", "SELECT name FROM item").want(t, exit.OK, "tea")
	online("page", "lease", "rm", "shop", added.Lease).want(t, exit.OK, added.Lease)
	if out := online("page", "lease", "ls").want(t, exit.OK).out; strings.Contains(out, added.Lease) {
		t.Errorf("it is still there:\n%s", out)
	}
	online("page", "lease", "rm", "shop", added.Lease).want(t, exit.OK)
}
