package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
)

// TestPagesAndBranchesOfARealServer: pages by LSN and by time, what changed them, and branches that are made, listed, written,
// reset and deleted, from the command line; and after a restore elsewhere, with the hot tier and the page server's directory
// gone, the pages are the same.
func TestPagesAndBranchesOfARealServer(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lc")
	p := startDev(t, dir)
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	count := func(log, want string, at ...string) {
		t.Helper()
		online(append([]string{"sqlite", log, "-o", "csv", "-c", "SELECT group_concat(name, '+') AS names FROM item"}, at...)...).want(t, exit.OK, "names\n"+want+"\n")
	}
	online("sqlite", "shop", "-c", "CREATE TABLE item(name); INSERT INTO item VALUES ('tea')").want(t, exit.OK)
	first := parse[logJSON](t, online("log", "info", "shop", "-o", "json")).LastLSN
	time.Sleep(5 * time.Millisecond)
	between := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(5 * time.Millisecond)
	online("sqlite", "shop", "-c", "INSERT INTO item VALUES ('coffee')").want(t, exit.OK)
	last := parse[logJSON](t, online("log", "info", "shop", "-o", "json")).LastLSN

	get := func(log string, at ...string) pageJSON {
		t.Helper()
		pages := parse[struct{ Pages []pageJSON }](t, online(append([]string{"page", "get", log, "1", "-o", "json"}, at...)...).want(t, exit.OK)).Pages
		if len(pages) != 1 || pages[0].Bytes == 0 {
			t.Fatalf("%v: %+v", at, pages)
		}
		return pages[0]
	}
	data := func(g pageJSON) string { return base64.StdEncoding.EncodeToString(g.Data) }
	newest, old, byTime := get("shop"), get("shop", "--lsn", first.String()), get("shop", "--time", between)
	if data(old) != data(byTime) || data(old) == data(newest) || old.LastLSN > first || newest.LastLSN <= first {
		t.Errorf("page 1: last changed at LSN %d now, %d by LSN, %d by time; the first transaction ended at %d", newest.LastLSN, old.LastLSN, byTime.LastLSN, first)
	}
	h := parse[historyJSON](t, online("page", "history", "shop", "1", "-o", "json").want(t, exit.OK))
	if len(h.Changes) < 2 || h.Changes[0].LSN != newest.LastLSN || h.Changes[0].LSN <= h.Changes[1].LSN {
		t.Errorf("%+v", h)
	}
	d := parse[diffJSON](t, online("page", "diff", "shop", "1", "--from-lsn", first.String(), "-o", "json").want(t, exit.OK))
	if len(d.Ranges) == 0 || d.From != old.LastLSN && d.From != first {
		t.Errorf("%+v", d)
	}
	for name, at := range map[string]string{"beyond the log": (last + 1000).String(), "not a number": "x"} {
		if r := online("page", "get", "shop", "1", "--lsn", at, "--timeout", "300ms"); r.code == exit.OK {
			t.Errorf("a page at an LSN %s:\n%s", name, r.out)
		}
	}

	online("branch", "create", "shop", "try", "--lsn", first.String()).want(t, exit.OK)
	online("branch", "create", "shop", "then", "--time", between).want(t, exit.OK)
	count("try", "tea")
	count("then", "tea")
	online("sqlite", "try", "-c", "INSERT INTO item VALUES ('milk')").want(t, exit.OK)
	count("try", "tea+milk")
	count("shop", "tea+coffee")
	online("branch", "ls").want(t, exit.OK, "try", "then")
	online("branch", "reset", "try", "--lsn", last.String(), "--force").want(t, exit.OK)
	count("try", "tea+coffee")
	online("branch", "delete", "then").want(t, exit.OK)
	if out := online("branch", "ls").want(t, exit.OK).out; regexp.MustCompile(`(?m)^then\b`).MatchString(out) {
		t.Errorf("it is still there:\n%s", out)
	}
	if r := online("page", "get", "then", "1"); r.code == exit.OK {
		t.Errorf("a page of a branch that was deleted:\n%s", r.out)
	}
	if r := online("branch", "create", "nothing", "b"); r.code == exit.OK {
		t.Error("a branch of a log that there isn't")
	}

	// Elsewhere, from the archive: nothing of the hot tier and of the page server's directory is left.
	want := map[logcore.LSN]string{first: data(old), last: data(newest)}
	online("log", "flush", "shop").want(t, exit.OK)
	p.stop()
	dev, err := roles.OpenDevDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{dev.LogServiceDir(), dev.PageServerDir()} {
		if _, err := os.Stat(gone); err != nil {
			t.Fatalf("the run is void: %v", err)
		}
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(root, "elsewhere")
	cli(t, "restore", "--key", dev.Key, "--to", to, "--targets", strings.Join(dev.Targets, ",")).want(t, exit.OK)
	if _, err := os.Stat(filepath.Join(to, filepath.Base(dev.PageServerDir()))); err == nil {
		t.Error("a page server's directory was restored: the run is void")
	}
	p = startDev(t, to)
	for at, page := range want {
		if data(get("shop", "--lsn", at.String())) != page {
			t.Errorf("page 1 at LSN %d differs after the restore", at)
		}
	}
	count("shop", "tea+coffee")
	count("try", "tea+coffee")
	count("shop", "tea", "--lsn", first.String())
	p.stop()
}
