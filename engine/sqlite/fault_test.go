package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/logcore/logcore"
)

// script is a run of transactions, each of which changes several pages.
var script = []string{
	`PRAGMA auto_vacuum = full; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); CREATE INDEX t_body ON t(body)`,
	`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO t SELECT i, hex(zeroblob(i)) || i FROM n`,
	`BEGIN; UPDATE t SET body = 'x' || body WHERE id % 3 = 0; DELETE FROM t WHERE id % 10 = 0; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT`,
	`INSERT INTO t SELECT id + 1000, replace(hex(zeroblob(9000)), '0', 'y') || id FROM t WHERE id < 40`,
	`DELETE FROM t WHERE id >= 1000`,
	`VACUUM`,
	`CREATE TABLE u AS SELECT * FROM t WHERE id < 20; INSERT INTO t VALUES (5000, 'last')`,
	`PRAGMA page_size = 1024; PRAGMA auto_vacuum = none; VACUUM`,
	`UPDATE t SET body = body || '!'`,
}

// states returns the content after each append that the script makes without a fault,
// and before the first.
func states(t *testing.T) []string {
	t.Helper()
	m := newModel()
	h := open(t, Options{Source: m, Logger: quiet})
	for _, sql := range script {
		h.exec(t, "%s", sql)
	}
	all := []string{""}
	for _, tx := range m.txs {
		pinned := open(t, Options{Source: m, LSN: tx.lsn})
		all = append(all, dump(t, pinned.conn))
		pinned.close()
	}
	return all
}

// TestEveryAppendFails lets each append of the script in turn fail in every way. Each
// time the database must refuse or go on, hold what was acknowledged (or, if the
// outcome was unknown, that and the one transaction in doubt), and be sound.
func TestEveryAppendFails(t *testing.T) {
	after := states(t)
	if len(after) < len(script) {
		t.Fatalf("the script makes %d appends", len(after)-1)
	}
	for at := 1; at < len(after); at++ {
		for what, name := range map[fate]string{refused: "refused", lostBefore: "lost before", lostAfter: "lost after"} {
			t.Run(fmt.Sprintf("append %d %s", at, name), func(t *testing.T) {
				m := newModel()
				m.fail = func(n int) fate {
					if n == at {
						return what
					}
					return fine
				}
				opts := Options{Source: m, Logger: quiet}
				h := open(t, opts)
				failed := runScript(h)
				if failed == nil {
					t.Fatal("no statement failed")
				}
				if !errors.Is(failed, sqlite3.IOERR) {
					t.Fatalf("the failed commit is %v", failed)
				}
				want := after[at-1]
				if what == refused {
					if !errors.Is(failed, logcore.ErrOverloaded) || h.db.Err() != nil {
						t.Fatalf("a refused commit is %v, the database says %v", failed, h.db.Err())
					}
				} else {
					refusesAll(t, h)
					h.close()
					m.crash()
					h = open(t, opts)
				}
				if what == lostAfter {
					want = after[at]
				}
				check(t, h.conn)
				if got := dump(t, h.conn); got != want {
					t.Fatalf("after the fault:\n%.500s\nwant\n%.500s", got, want)
				}
				// It is a database like any other, also for the next process.
				h.exec(t, `CREATE TABLE afterwards(a); INSERT INTO afterwards VALUES (1)`)
				got := dump(t, h.conn)
				h.close()
				h = open(t, opts)
				check(t, h.conn)
				if dump(t, h.conn) != got {
					t.Fatal("what was written after the fault is not what is read")
				}
			})
		}
	}
}

// runScript runs the script up to the first statement that fails.
func runScript(h *handle) error {
	for _, sql := range script {
		if err := h.try(sql); err != nil {
			if !h.conn.GetAutocommit() {
				h.conn.Exec(`ROLLBACK`)
			}
			return err
		}
	}
	return nil
}

// refusesAll: nothing may be read or written from a base that may be wrong, on any connection.
func refusesAll(t *testing.T, h *handle) {
	t.Helper()
	if h.db.Err() == nil {
		t.Fatal("Err() is nil after an unknown outcome")
	}
	for _, sql := range []string{`SELECT count(*) FROM sqlite_schema`, `CREATE TABLE more(a)`, `BEGIN IMMEDIATE`} {
		err := h.try(sql)
		if err == nil || !strings.Contains(err.Error(), "open it again") {
			t.Fatalf("%s on a poisoned database: %v", sql, err)
		}
	}
	if _, err := h.db.Conn(t.Context()); err == nil || !strings.Contains(err.Error(), "open it again") {
		t.Fatalf("new connection to a poisoned database: %v", err)
	}
}

func TestPoisonReachesOtherConnections(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, Logger: quiet})
	h.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	other, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	query(t, other, `SELECT * FROM t`)
	m.fail = func(int) fate { return lostAfter }
	if err := h.try(`INSERT INTO t VALUES (2)`); err == nil {
		t.Fatal("the commit succeeded")
	}
	if got, err := tryQuery(other, `SELECT * FROM t`); err == nil {
		t.Fatalf("the other connection reads %q", got)
	}
}

// An application that gives up while its commit is refused must not find the commit in
// SQLite's cache afterwards, let alone write it with its next transaction.
func TestInterruptedRefusedCommit(t *testing.T) {
	for _, mode := range []string{"delete", "memory", "off", "persist"} {
		m := newModel()
		h := open(t, Options{Source: m, Logger: quiet})
		h.exec(t, `PRAGMA journal_mode = %s; CREATE TABLE t(x, y); INSERT INTO t VALUES (1, zeroblob(9000)), (2, '')`, mode)
		other, err := h.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		ctx, cancel := context.WithCancel(t.Context())
		h.conn.SetInterrupt(ctx)
		m.fail = func(int) fate {
			cancel()
			return refused
		}
		if err := h.try(`UPDATE t SET x = 666`); !errors.Is(err, sqlite3.IOERR) || !errors.Is(err, logcore.ErrOverloaded) {
			t.Fatalf("journal_mode=%s: the refused commit is %v", mode, err)
		}
		h.conn.SetInterrupt(t.Context())
		m.fail = nil
		// It raises the change counter to what the refused one had.
		if err := other.Exec(`UPDATE t SET x = 3 WHERE x = 1`); err != nil {
			t.Fatal(err)
		}
		h.exec(t, `UPDATE t SET x = x + 1`)
		for _, conn := range []*sqlite3.Conn{h.conn, other, open(t, Options{Source: m, ReadOnly: true}).conn} {
			check(t, conn)
			if got := query(t, conn, `SELECT group_concat(x) FROM t`); got != "4,3" {
				t.Fatalf("journal_mode=%s: content %q", mode, got)
			}
		}
	}
}

// The codes after which SQLite's pager gives up what it has cached, in every place where
// it has written or is about to commit.
func TestFaultsSQLiteBelieves(t *testing.T) {
	h := open(t, Options{Source: newModel()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := &file{db: h.db, conn: h.conn}
	h.conn.SetInterrupt(ctx)
	defer h.conn.SetInterrupt(t.Context())
	for _, err := range []error{errors.New("any"), sqlite3.BUSY, sqlite3.INTERRUPT, context.Canceled, busySnapshot{1, 2}, logcore.ErrWriterActive,
		&logcore.LagError{}, errTxTooLarge{1}, logcore.ErrTooLarge, vfs.SystemError(errors.New("inner"), sqlite3.INTERRUPT)} {
		for _, code := range []sqlite3.ExtendedErrorCode{sqlite3.IOERR_WRITE, sqlite3.IOERR_COMMIT_ATOMIC, sqlite3.IOERR_FSTAT} {
			got := f.fault(err, code)
			full := code == sqlite3.IOERR_WRITE && got == vfs.SystemError(err, sqlite3.FULL)
			if got != vfs.SystemError(err, code) && !full {
				t.Errorf("%v as %v becomes %#v", err, code, got)
			}
		}
	}
}

func TestTransactionLargerThanAllowed(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, TxBytesMax: 100_000})
	h.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES ('kept')`)
	err := h.try(`INSERT INTO t VALUES (zeroblob(500000))`)
	if !errors.Is(err, sqlite3.FULL) || !strings.Contains(err.Error(), "TxBytesMax") {
		t.Fatalf("too large a transaction: %v", err)
	}
	h.exec(t, `INSERT INTO t VALUES ('more')`)
	check(t, h.conn)
	if got := query(t, h.conn, `SELECT * FROM t`); got != "kept\nmore" {
		t.Fatalf("content: %q", got)
	}
}

// A page server that is behind must not stop the writer from reading what has not
// changed since; what has, it waits for.
func TestPageServerBehind(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, CacheBytes: 20_000})
	h.exec(t, `PRAGMA cache_size = 1; CREATE TABLE small(a)`)
	h.exec(t, fillSQL, 300)
	want := query(t, h.conn, `SELECT sum(length(b)) FROM t`)
	m.lagging = true
	h.exec(t, `INSERT INTO small VALUES (1)`)
	if got := query(t, h.conn, `SELECT sum(length(b)) FROM t NOT INDEXED WHERE id > 3`); got == "" {
		t.Fatal("no sum")
	}
	_, err := tryQuery(h.conn, `SELECT * FROM small`)
	if err = h.db.Explain(err); !errors.Is(err, logcore.ErrLSNInFuture) || !errors.Is(err, sqlite3.IOERR) {
		t.Fatalf("reading a page that the page server does not have yet: %v", err)
	}
	m.catchUp()
	if got := query(t, h.conn, `SELECT * FROM small`); got != "1" {
		t.Fatalf("small holds %q", got)
	}
	if got := query(t, h.conn, `SELECT sum(length(b)) FROM t`); got != want {
		t.Fatalf("sum is %s, was %s", got, want)
	}
}
