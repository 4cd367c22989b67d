package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/exit"
)

// parse reads JSON output.
func parse[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("%v\n%s%s", err, r.out, r.err)
	}
	return v
}

// Every command once, on one service, as a newcomer would try them.
func TestCommands(t *testing.T) {
	root := t.TempDir()
	p := startDev(t, filepath.Join(root, "lc"))
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }

	// What dev prints works as it stands.
	said := p.stdout.String()
	for _, want := range []string{"6 targets", "logcore sqlite --addr " + p.addr, "logcore restore --dir", "\nready " + p.addr} {
		if !strings.Contains(said, want) {
			t.Errorf("dev does not say %q:\n%s", want, said)
		}
	}

	// Logs.
	lsn := strings.TrimSpace(online("log", "append", "notes", "-d", "first").want(t, exit.OK).out)
	cliIn(t, strings.NewReader("second\nthird\n"), "log", "append", "notes", "--lines", "-o", "json", "--addr", p.addr).want(t, exit.OK, `"lsn"`)
	online("log", "read", "notes", "-o", "raw", "--from", lsn).want(t, exit.OK, "firstsecondthird")
	online("log", "read", "notes", "--limit", "1").want(t, exit.OK, "KIND", "data", "first")
	lines := strings.Split(strings.TrimSpace(online("log", "read", "notes", "-o", "json").want(t, exit.OK).out), "\n")
	if e := parse[entryJSON](t, result{out: lines[1]}); len(lines) != 3 || string(e.Payload) != "second" || e.Kind != "data" || e.Sequence != 1 {
		t.Errorf("entries %v", lines)
	}
	online("log", "ls").want(t, exit.OK, "notes", "ENTRIES")
	if info := parse[logJSON](t, online("log", "info", "notes", "-o", "json").want(t, exit.OK)); info.Entries != 3 || info.Log != "notes" {
		t.Errorf("info %+v", info)
	}
	online("log", "info", "notes").want(t, exit.OK, "writer epoch", "2")
	online("log", "flush", "notes", "-o", "json").want(t, exit.OK, "archived_lsn")

	// SQLite.
	online("sqlite", "shop", "-c", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item(name) VALUES('tea'),('milk')").want(t, exit.OK)
	before := parse[logJSON](t, online("log", "info", "shop", "-o", "json"))
	online("sqlite", "shop", "-c", "UPDATE item SET name = 'coffee' WHERE id = 1").want(t, exit.OK)
	online("sqlite", "shop", "-c", "SELECT * FROM item").want(t, exit.OK, "id  name", "1   coffee")
	online("sqlite", "shop", "-o", "json", "-c", "SELECT name FROM item").want(t, exit.OK, `{"name":"coffee"}`)
	online("sqlite", "shop", "-o", "csv", "--lsn", before.LastLSN.String(), "-c", "SELECT name FROM item").want(t, exit.OK, "tea\nmilk")
	online("sqlite", "shop", "-o", "csv", "--time", before.LastTime, "-c", "SELECT name FROM item").want(t, exit.OK, "tea\nmilk")
	online("sqlite", "shop", "--lsn", before.LastLSN.String(), "-c", "DELETE FROM item").want(t, exit.Failure, "readonly")
	cliIn(t, strings.NewReader("SELECT count(*) FROM item;\n.tables\n"), "sqlite", "shop", "--addr", p.addr, "-o", "csv").want(t, exit.OK, "2", "item")
	exported := filepath.Join(root, "shop.db")
	online("sqlite", "shop", "export", exported).want(t, exit.OK, "exported", "pages at LSN")
	online("sqlite", "shop", "export", exported).want(t, exit.Failure, "exists")
	online("sqlite", "copy", "import", exported, "-o", "json").want(t, exit.OK, `"pages"`)
	online("sqlite", "copy", "-o", "csv", "-c", "SELECT name FROM item; PRAGMA integrity_check").want(t, exit.OK, "coffee\nmilk", "ok")

	// Pages and branches.
	online("page", "get", "shop", "0", "-o", "raw").want(t, exit.OK, "SQLite format 3")
	online("page", "get", "shop", "0", "99", "-o", "json").want(t, exit.OK, `"page": 99`, `"bytes": 0`)
	online("page", "get", "shop", "0", "99").want(t, exit.OK, "|SQLite format 3.|", "page 99 does not exist")
	online("branch", "create", "shop", "shop-before", "--lsn", before.LastLSN.String()).want(t, exit.OK, "at LSN")
	online("sqlite", "shop-before", "-c", "INSERT INTO item(name) VALUES('sugar')").want(t, exit.OK)
	online("sqlite", "shop-before", "-o", "csv", "-c", "SELECT name FROM item").want(t, exit.OK, "tea\nmilk\nsugar")
	online("sqlite", "shop", "-o", "csv", "-c", "SELECT name FROM item").want(t, exit.OK, "coffee\nmilk\n")
	online("branch", "ls").want(t, exit.OK, "shop-before", "shop@"+before.LastLSN.String())

	// The service.
	if st := parse[statusJSON](t, online("status", "-o", "json").want(t, exit.OK)); !st.Healthy || st.Logs != 4 || len(st.Shards) != 1 {
		t.Errorf("status %+v", st)
	}
	if targets := parse[[]targetJSON](t, online("target", "ls", "-o", "json").want(t, exit.OK)); len(targets) != 6 || !targets[0].Healthy || targets[0].Fragments == 0 {
		t.Errorf("targets %+v", targets)
	}
	online("target", "ls").want(t, exit.OK, "PROVIDER", "healthy")
	p.stop()

	// Offline.
	shard := filepath.Join(root, "lc", "logsvc", "shard-0")
	cli(t, "log", "check", shard).want(t, exit.OK, "proven durable")
	cli(t, "log", "dump", shard).want(t, exit.OK, "kind=data", "kind=catalog")
	cli(t, "log", "dump", "-o", "json", shard).want(t, exit.OK, `{"segment":"00000001.seg","state":"open",`, `"kind":"data"`)
	cli(t, "log", "dump", "-o", "xml", shard).want(t, exit.Usage, "text, json")
	cli(t, "verify", "--dir", filepath.Join(root, "lc")).want(t, exit.OK, "every byte is what was written")
	cli(t, "version", "-o", "json").want(t, exit.OK, `"go": "go`)
}

// A restore to the past, into a new directory, is a service of its own; one that lies
// in the middle of a large transaction shows nothing of it.
func TestRestoreToThePast(t *testing.T) {
	root := t.TempDir()
	p := startDev(t, filepath.Join(root, "lc"), "--entry-bytes-max", "64KiB")
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	online("sqlite", "db", "-c", "CREATE TABLE t(x); INSERT INTO t VALUES('small')").want(t, exit.OK)
	online("sqlite", "db", "-c", "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 4000) INSERT INTO t SELECT hex(randomblob(100)) FROM n").want(t, exit.OK)
	online("log", "flush", "db").want(t, exit.OK)
	parts := regexp.MustCompile(`(?m)^(\d+) .*  part `).FindAllStringSubmatch(online("log", "read", "db").want(t, exit.OK).out, -1)
	if len(parts) < 3 {
		t.Fatalf("the large transaction has %d parts", len(parts))
	}
	p.stop()
	middle := parts[1][1]
	targets := strings.Join(dirTargets(filepath.Join(root, "lc", "targets")), ",")
	to, key := filepath.Join(root, "past"), filepath.Join(root, "lc", "key")
	cli(t, "restore", "--to", to, "--key", key, "--targets", targets, "--lsn", middle, "--log", "nothing").want(t, exit.Failure, "log not found", "it holds db")
	r := cli(t, "restore", "--to", to, "--key", key, "--targets", targets, "--lsn", middle, "--log", "db").want(t, exit.OK,
		"unfinished", "fork", "LSN 1 to "+middle, "logcore dev --dir "+to)
	if !strings.Contains(r.out, "nobody sees it") {
		t.Error(r.out)
	}
	// The past does not write to the archive of the present.
	cli(t, "dev", "--dir", to, "--listen", "127.0.0.1:0", "--metrics", "", "--targets", targets).want(t, exit.Failure, "cluster", "targets of its own")
	past := startDev(t, to)
	cli(t, "sqlite", "db", "--addr", past.addr, "-o", "csv", "-c", "SELECT * FROM t; INSERT INTO t VALUES('another history')").want(t, exit.OK, "x\nsmall\n")
	cli(t, "log", "flush", "db", "--addr", past.addr).want(t, exit.OK)
	past.stop()
	cli(t, "verify", "--dir", to).want(t, exit.OK)
	// The present is what it was.
	present := startDev(t, filepath.Join(root, "lc"))
	cli(t, "sqlite", "db", "--addr", present.addr, "-o", "csv", "-c", "SELECT count(*) FROM t").want(t, exit.OK, "4001")
	present.stop()
	cli(t, "verify", "--dir", filepath.Join(root, "lc")).want(t, exit.OK)
}

func dirTargets(dir string) []string {
	var urls []string
	for _, n := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		urls = append(urls, fmt.Sprintf("dir://%s?name=%s&provider=%s&region=local", filepath.Join(dir, n), n, n[:1]))
	}
	return urls
}
