package main

import (
	"path/filepath"
	"testing"

	"github.com/logcore/logcore/internal/exit"
)

// The log service and the page server as processes of their own: every command that
// needs pages finds them with --page-addr, and says so without it.
func TestRolesApart(t *testing.T) {
	root := t.TempDir()
	logs := startProgram(t, "logsvc", "--dir", filepath.Join(root, "logs"), "--listen", "127.0.0.1:0", "--metrics", "", "--segment-bytes", "16MiB")
	pages := startProgram(t, "pageserver", "--dir", filepath.Join(root, "pages"), "--listen", "127.0.0.1:0", "--metrics", "", "--log-service", logs.addr)
	both := func(args ...string) result {
		return cli(t, append(args, "--addr", logs.addr, "--page-addr", pages.addr)...)
	}

	both("sqlite", "shop", "-c", "CREATE TABLE item(name); INSERT INTO item VALUES ('tea')").want(t, exit.OK)
	both("sqlite", "shop", "-o", "csv", "-c", "SELECT name FROM item").want(t, exit.OK, "tea")
	both("branch", "create", "shop", "what-if").want(t, exit.OK)
	both("sqlite", "what-if", "-o", "csv", "-c", "DELETE FROM item; SELECT count(*) AS n FROM item").want(t, exit.OK, "n\n0\n")
	both("page", "get", "shop", "0").want(t, exit.OK, "SQLite format 3")
	both("status").want(t, exit.OK)

	const sql = "SELECT name FROM item"
	cli(t, "sqlite", "shop", "--addr", logs.addr, "-c", sql).want(t, exit.Server, logs.addr+" is a log service", "--page-addr")
	cli(t, "sqlite", "shop", "--addr", pages.addr, "-c", sql).want(t, exit.Server, pages.addr+" is no log service", "--addr")
	cli(t, "sqlite", "shop", "--addr", logs.addr, "--page-addr", logs.addr, "-c", sql).want(t, exit.Server, "--page-addr")

	// Whoever needs no pages does not care whether the page server is there.
	pages.stop()
	both("log", "append", "notes", "-d", "x").want(t, exit.OK)
	both("sqlite", "shop", "--timeout", "500ms", "-c", sql).want(t, exit.Connect, pages.addr)
	logs.stop()
}
