package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/logcore/logcore/internal/exit"
)

// A log service without an archive whose directory is put back from a copy goes on with
// another history, as the same incarnation. The page server that had followed the first
// one shows no page of it.
func TestPagesOfAPutBackLogService(t *testing.T) {
	root := t.TempDir()
	dir, copied := filepath.Join(root, "logs"), filepath.Join(root, "copy")
	var logs, pages *program
	start := func() {
		logs = startProgram(t, "logsvc", "--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "", "--segment-bytes", "1MiB")
		pages = startProgram(t, "pageserver", "--dir", filepath.Join(root, "pages"), "--listen", "127.0.0.1:0", "--metrics", "", "--log-service", logs.addr)
	}
	sql := func(text string, want ...string) {
		t.Helper()
		cli(t, "sqlite", "shop", "--addr", logs.addr, "--page-addr", pages.addr, "-o", "csv", "-c", text).want(t, exit.OK, want...)
	}
	stop := func() {
		pages.stop()
		logs.stop()
	}
	start()
	sql("CREATE TABLE item(name); INSERT INTO item VALUES ('tea')")
	stop()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	start()
	sql("INSERT INTO item VALUES ('lost'); SELECT group_concat(name) FROM item", "tea,lost")
	stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, dir); err != nil {
		t.Fatal(err)
	}
	start()
	sql("SELECT group_concat(name) AS names FROM item", "names\ntea\n")
	sql("CREATE TABLE other(x); INSERT INTO other VALUES (1); INSERT INTO item VALUES ('coffee')")
	sql("SELECT group_concat(name) AS names FROM item; PRAGMA integrity_check", "\"tea,coffee\"", "ok")
	stop()
}
