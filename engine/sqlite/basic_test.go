package sqlite

import (
	"fmt"
	"testing"
)

func TestCommitIsOneAppendAndSurvives(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m})
	h.exec(t, `CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)`)
	before := m.appends
	h.exec(t, `BEGIN; INSERT INTO t(body) VALUES ('one'), ('two'); UPDATE t SET body = 'zwei' WHERE id = 2; COMMIT`)
	if got := m.appends - before; got != 1 {
		t.Fatalf("a transaction took %d appends, want 1", got)
	}
	if h.db.LSN() != m.last || h.db.LastCommit().LSN != m.last || h.db.LastCommit().Time == 0 {
		t.Fatalf("LSN() = %d, LastCommit() = %+v, log ends at %d", h.db.LSN(), h.db.LastCommit(), m.last)
	}
	h.exec(t, `BEGIN; SELECT * FROM t; COMMIT; BEGIN IMMEDIATE; COMMIT`)
	if got := m.appends - before; got != 1 {
		t.Fatalf("transactions that change nothing took %d appends", got-1)
	}
	h.close()

	h = open(t, Options{Source: m})
	if got := query(t, h.conn, `SELECT * FROM t`); got != "1|one\n2|zwei" {
		t.Fatalf("after reopening: %q", got)
	}
	check(t, h.conn)
}

// Each connection has SQLite's own page cache, which it keeps as long as the change
// counter in the file's header stays the same: so every commit must raise it.
func TestConnectionsSeeEachOther(t *testing.T) {
	h := open(t, Options{Source: newModel()})
	h.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (0)`)
	other, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for i := range 10 {
		h.exec(t, `UPDATE t SET a = %d`, i)
		if got, want := query(t, other, `SELECT a FROM t`), fmt.Sprint(i); got != want {
			t.Fatalf("after SET a = %d another connection reads %s", i, got)
		}
	}
}
