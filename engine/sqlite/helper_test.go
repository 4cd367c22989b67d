package sqlite

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// handle is a Database with one connection.
type handle struct {
	db   *Database
	conn *sqlite3.Conn
}

func tryOpen(opts Options) (*handle, error) {
	if opts.Log == "" {
		opts.Log = "shop/orders"
	}
	db, err := Open(context.Background(), opts)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		db.Close(context.Background())
		return nil, err
	}
	return &handle{db, conn}, nil
}

func (h *handle) close() {
	h.conn.Close()
	h.db.Close(context.Background())
}

// exec runs SQL that must succeed.
func (h *handle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if err := h.try(fmt.Sprintf(sql, args...)); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
}

// try runs SQL and explains its error.
func (h *handle) try(sql string) error { return h.db.Explain(h.conn.Exec(sql)) }

// query returns the rows of a query as text, one line each.
func query(t *testing.T, conn *sqlite3.Conn, sql string) string {
	t.Helper()
	out, err := tryQuery(conn, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func tryQuery(conn *sqlite3.Conn, sql string) (string, error) {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return "", err
	}
	defer stmt.Close()
	var b strings.Builder
	for stmt.Step() {
		for i := range stmt.ColumnCount() {
			if i > 0 {
				b.WriteByte('|')
			}
			if stmt.ColumnType(i) == sqlite3.BLOB {
				fmt.Fprintf(&b, "x%x", stmt.ColumnRawBlob(i))
			} else {
				b.WriteString(stmt.ColumnText(i))
			}
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n"), stmt.Err()
}

// dump is the whole logical content of a database, to compare two of them.
func dump(t *testing.T, conn *sqlite3.Conn) string {
	t.Helper()
	content, err := tryDump(conn)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func tryDump(conn *sqlite3.Conn) (string, error) {
	content, err := tryQuery(conn, `SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2`)
	if err != nil {
		return "", err
	}
	tables, err := tryQuery(conn, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_stat%' ORDER BY 1`)
	for _, table := range strings.Fields(tables) {
		var all string
		if all, err = tryQuery(conn, `SELECT * FROM `+sqlite3.QuoteIdentifier(table)); err != nil {
			break
		}
		rows := strings.Split(all, "\n")
		slices.Sort(rows)
		content += fmt.Sprintf("\n--%s\n%s", table, strings.Join(rows, "\n"))
	}
	return content, err
}

// check runs SQLite's own integrity check.
func check(t *testing.T, conn *sqlite3.Conn) {
	t.Helper()
	if got := query(t, conn, `PRAGMA integrity_check`); got != "ok" {
		t.Fatalf("integrity_check: %s", got)
	}
	if got := query(t, conn, `PRAGMA foreign_key_check`); got != "" {
		t.Fatalf("foreign_key_check: %s", got)
	}
}

// quiet is for tests that provoke what is logged.
var quiet = slog.New(slog.DiscardHandler)

// runs is how often something is tried: a few times per change, or as often as an
// environment variable says (LOGCORE_KILLS, LOGCORE_SEEDS) for a night.
func runs(t *testing.T, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < usual {
		t.Fatalf("%s=%s: want a number, at least %d", variable, s, usual)
	}
	return n
}
