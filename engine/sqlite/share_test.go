package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/logcore/logcore"
)

func TestSecondWriterIsBusy(t *testing.T) {
	m := newModel()
	a := open(t, Options{Source: m})
	b := open(t, Options{Source: m, BusyTimeout: time.Millisecond})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	err := b.try(`INSERT INTO t VALUES (2)`)
	if !errors.Is(err, sqlite3.BUSY) || !errors.Is(err, logcore.ErrWriterActive) {
		t.Fatalf("second writer: %v", err)
	}
	if got := query(t, b.conn, `SELECT * FROM t`); got != "1" {
		t.Fatalf("the second process reads %q", got)
	}
	a.exec(t, `INSERT INTO t VALUES (3)`)
	a.close()
	b.exec(t, `INSERT INTO t VALUES (4)`)
	check(t, b.conn)
	if got := query(t, b.conn, `SELECT * FROM t`); got != "1\n3\n4" {
		t.Fatalf("after the first writer left: %q", got)
	}
}

func TestFencedWriter(t *testing.T) {
	m := newModel()
	a := open(t, Options{Source: m, Logger: quiet})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1); BEGIN; INSERT INTO t VALUES (2)`)
	b := open(t, Options{Source: m, WriteNow: true, Takeover: true})
	if b.db.Epoch() != 2 {
		t.Fatalf("epoch %d", b.db.Epoch())
	}
	b.exec(t, `INSERT INTO t VALUES (3)`)
	err := a.try(`COMMIT`)
	if !errors.Is(err, logcore.ErrFenced) || !errors.Is(err, sqlite3.IOERR) {
		t.Fatalf("the fenced writer's commit: %v", err)
	}
	refusesAll(t, a)
	b.exec(t, `INSERT INTO t VALUES (4)`)
	check(t, b.conn)
	if got := query(t, b.conn, `SELECT * FROM t`); got != "1\n3\n4" {
		t.Fatalf("after the fencing: %q", got)
	}
	a.close()
	a = open(t, Options{Source: m})
	if got := query(t, a.conn, `SELECT * FROM t`); got != "1\n3\n4" {
		t.Fatalf("the fenced writer after reopening: %q", got)
	}
}

// A transaction that has read an older state must not write over a newer one.
func TestStaleSnapshotMayNotWrite(t *testing.T) {
	m := newModel()
	b := open(t, Options{Source: m, BusyTimeout: time.Millisecond})
	a := open(t, Options{Source: m})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (10)`)
	b.exec(t, `BEGIN`)
	if got := query(t, b.conn, `SELECT a FROM t`); got != "10" {
		t.Fatalf("read %q", got)
	}
	a.exec(t, `UPDATE t SET a = a + 1`)
	a.close()
	err := b.try(`UPDATE t SET a = a + 100`)
	if !errors.Is(err, sqlite3.BUSY_SNAPSHOT) {
		t.Fatalf("writing on an old snapshot: %v", err)
	}
	if got := query(t, b.conn, `SELECT a FROM t`); got != "10" {
		t.Fatalf("the transaction's snapshot became %q", got)
	}
	b.exec(t, `ROLLBACK; UPDATE t SET a = a + 100`)
	if got := query(t, b.conn, `SELECT a FROM t`); got != "111" {
		t.Fatalf("an update was lost: %q", got)
	}
	check(t, b.conn)
}

func TestReaderBlocksCommitAndNotTheOtherWayRound(t *testing.T) {
	h := open(t, Options{Source: newModel(), BusyTimeout: time.Millisecond})
	h.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	reader, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := reader.Exec(`BEGIN; SELECT * FROM t`); err != nil {
		t.Fatal(err)
	}
	h.exec(t, `BEGIN; INSERT INTO t VALUES (2)`)
	if got := query(t, reader, `SELECT * FROM t`); got != "1" {
		t.Fatalf("a reader sees what is not committed: %q", got)
	}
	if err := reader.Exec(`INSERT INTO t VALUES (9)`); !errors.Is(err, sqlite3.BUSY) {
		t.Fatalf("two transactions write at once: %v", err)
	}
	if err := h.try(`COMMIT`); !errors.Is(err, sqlite3.BUSY) {
		t.Fatalf("commit under a reader: %v", err)
	}
	// PENDING now: nobody new may begin to read, or the commit would starve.
	late, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if got, err := tryQuery(late, `SELECT * FROM t`); !errors.Is(err, sqlite3.BUSY) {
		t.Fatalf("a reader began under a pending commit: %q, %v", got, err)
	}
	if err := reader.Exec(`COMMIT`); err != nil {
		t.Fatal(err)
	}
	h.exec(t, `COMMIT`)
	if got := query(t, reader, `SELECT * FROM t`); got != "1\n2" {
		t.Fatalf("after the commit: %q", got)
	}
}

func TestPinnedAndFollowing(t *testing.T) {
	m := newModel()
	w := open(t, Options{Source: m})
	w.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	first := w.db.LSN()
	atOpen := open(t, Options{Source: m, ReadOnly: true})
	follow := open(t, Options{Source: m, Follow: true})
	if err := follow.conn.Exec(`BEGIN; SELECT * FROM t`); err != nil {
		t.Fatal(err)
	}
	w.exec(t, `UPDATE t SET a = 2; CREATE TABLE u(b)`)
	pinned := open(t, Options{Source: m, LSN: first})
	for name, h := range map[string]*handle{"pinned": pinned, "read-only": atOpen, "following in a transaction": follow} {
		if got := query(t, h.conn, `SELECT a FROM t`); got != "1" {
			t.Errorf("%s: reads %q", name, got)
		}
		if h.db.LSN() != first && h != follow {
			t.Errorf("%s: LSN() = %d, want %d", name, h.db.LSN(), first)
		}
		if err := h.try(`UPDATE t SET a = 9`); !errors.Is(err, sqlite3.READONLY) {
			t.Errorf("%s: writing: %v", name, err)
		}
	}
	follow.exec(t, `COMMIT`)
	if got := query(t, follow.conn, `SELECT a, (SELECT count(*) FROM u) FROM t`); got != "2|0" {
		t.Errorf("following, in the next transaction: %q", got)
	}
	if follow.db.LSN() != w.db.LSN() {
		t.Errorf("following at LSN %d, the writer is at %d", follow.db.LSN(), w.db.LSN())
	}
	var lag *logcore.LagError
	if _, err := tryOpen(Options{Source: m, LSN: m.last + 1000}); !errors.As(err, &lag) {
		t.Errorf("an LSN in the future: %v", err)
	}
	if _, err := tryOpen(Options{Source: newModel(), ReadOnly: true}); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("a log that does not exist, read-only: %v", err)
	}
}

// Many connections of one process and following readers of others: no update is lost
// and no reader ever sees a half of a transfer.
func TestConcurrentTransfers(t *testing.T) {
	const accounts, writers, rounds = 20, 4, 40
	m := newModel()
	h := open(t, Options{Source: m, BusyTimeout: time.Minute})
	h.exec(t, `CREATE TABLE account(id INTEGER PRIMARY KEY, amount INT NOT NULL, pad TEXT); CREATE TABLE done(w INT, i INT)`)
	h.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO account SELECT i, 100, hex(zeroblob(500)) FROM n`, accounts)
	ctx, cancel := context.WithCancel(t.Context())
	var readers, work sync.WaitGroup
	failures := make(chan error, writers+2)
	for range 2 {
		r := open(t, Options{Source: m, Follow: true})
		readers.Go(func() {
			for ctx.Err() == nil {
				if got, err := tryQuery(r.conn, `SELECT sum(amount) FROM account`); err != nil || got != fmt.Sprint(100*accounts) {
					failures <- fmt.Errorf("a reader sees a sum of %q, %v", got, r.db.Explain(err))
					return
				}
			}
		})
	}
	for w := range writers {
		conn, err := h.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		work.Go(func() {
			for i := range rounds {
				from, to := (w+i)%accounts+1, (w*7+i*3)%accounts+1
				err := conn.Exec(fmt.Sprintf(`BEGIN IMMEDIATE; UPDATE account SET amount = amount - 1 WHERE id = %d;
					UPDATE account SET amount = amount + 1 WHERE id = %d; INSERT INTO done VALUES (%d, %d); COMMIT`, from, to, w, i))
				if err != nil {
					failures <- fmt.Errorf("writer %d, round %d: %w", w, i, h.db.Explain(err))
					return
				}
			}
		})
	}
	work.Wait()
	cancel()
	readers.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	check(t, h.conn)
	if got := query(t, h.conn, `SELECT count(*), (SELECT sum(amount) FROM account) FROM done`); got != fmt.Sprintf("%d|%d", writers*rounds, 100*accounts) {
		t.Fatalf("in the end: %s", got)
	}
}

func TestScanReadsAhead(t *testing.T) {
	m := newModel()
	w := open(t, Options{Source: m})
	w.exec(t, fillSQL, 3000)
	r := open(t, Options{Source: m, ReadOnly: true})
	m.calls = 0
	query(t, r.conn, `SELECT sum(length(b)) FROM t NOT INDEXED`)
	if pages := r.db.view.pages; pages < 1000 || m.calls > 50 {
		t.Fatalf("a scan of %d pages took %d calls", pages, m.calls)
	}
	calls := m.calls
	query(t, r.conn, `SELECT sum(length(b)) FROM t NOT INDEXED`)
	if m.calls != calls {
		t.Fatalf("a second scan took %d calls: the cache was not used", m.calls-calls)
	}
}

func TestRefusals(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m})
	h.exec(t, `CREATE TABLE t(a)`)
	for _, sql := range []string{`PRAGMA journal_mode = wal`, `PRAGMA main.journal_mode = 'WAL'`, `PRAGMA journal_mode = "wal"`} {
		if err := h.try(sql); err == nil || !strings.Contains(err.Error(), "journal_mode") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	h.exec(t, `PRAGMA locking_mode = normal; SELECT * FROM t`)
	path, _ := sqliteFile(t, `CREATE TABLE o(a)`)
	uri, err := fileURI(path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	h.exec(t, `ATTACH '%s' AS other`, uri)
	h.exec(t, `INSERT INTO other.o VALUES (1)`)
	h.exec(t, `INSERT INTO t SELECT * FROM other.o`)
	if err := h.try(`BEGIN; INSERT INTO t VALUES (2); INSERT INTO other.o VALUES (2); COMMIT`); err == nil || !strings.Contains(err.Error(), "another attached one") {
		t.Errorf("a transaction over two databases: %v", err)
	}
	if got := query(t, h.conn, `SELECT (SELECT group_concat(a) FROM t), (SELECT group_concat(a) FROM other.o)`); got != "1|1" {
		t.Errorf("it left %q", got)
	}
	if err := h.try(`ATTACH 'elsewhere' AS another`); err == nil || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("attaching a file in this file system: %v", err)
	}
	if err := h.db.Close(t.Context()); !errors.Is(err, logcore.ErrInUse) {
		t.Errorf("Close with an open connection: %v", err)
	}
	h.exec(t, `INSERT INTO t VALUES (3)`)
	dsn := h.db.DSN()
	h.close()
	if _, err := sqlite3.Open(dsn); err == nil {
		t.Error("a connection to a closed database")
	}
	for _, opts := range []Options{{}, {Log: "a", Source: m, LSN: 3, Follow: true}, {Log: "-", Source: m}, {Log: "a", Source: m, ReadOnly: true, Takeover: true},
		{Log: "a", Source: m, CacheBytes: -1}, {Log: "a", Source: m, ReadTimeout: -1}} {
		if _, err := Open(t.Context(), opts); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("Open(%+v) = %v", opts, err)
		}
	}
}

// Exclusive locking mode is refused, also where SQLite does not ask: in a database that
// is attached, a second transaction finds that it has no lock of its own.
func TestExclusiveLockingMode(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, Logger: quiet})
	for _, sql := range []string{`PRAGMA locking_mode = exclusive`, `PRAGMA main.locking_mode = 'EXCLUSIVE'`} {
		if err := h.try(sql); err == nil || !strings.Contains(err.Error(), "not available") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	h.exec(t, `PRAGMA locking_mode = normal; CREATE TABLE t(a)`)
	conn, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Exec(`PRAGMA locking_mode = exclusive; ATTACH '` + h.db.DSN() + `' AS log; INSERT INTO log.t VALUES (1)`)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.db.Explain(conn.Exec(`INSERT INTO log.t VALUES (2)`)); !errors.Is(err, errLocking) {
			t.Errorf("a second transaction under the same lock: %v", err)
		}
	}
	if len(m.txs) != 2 {
		t.Fatalf("%d transactions", len(m.txs))
	}
	if err := conn.Exec(`DETACH log`); err != nil {
		t.Fatal(err)
	}
	h.exec(t, `INSERT INTO t VALUES (3)`)
	check(t, h.conn)
	if got := query(t, h.conn, `SELECT group_concat(a) FROM t`); got != "1,3" {
		t.Fatalf("content %q", got)
	}
}

// Whatever a failed transaction had written before must be gone, in every journal mode.
func TestNothingOfAFailedTransactionStays(t *testing.T) {
	for _, mode := range []string{"delete", "memory", "off", "persist", "truncate"} {
		m := newModel()
		h := open(t, Options{Source: m, TxBytesMax: 300_000, Logger: quiet})
		h.exec(t, `PRAGMA journal_mode = %s; PRAGMA cache_size = 1`, mode)
		h.exec(t, fillSQL, 50)
		want := dump(t, h.conn)
		for _, sql := range []string{
			`UPDATE t SET b = zeroblob(9000)`, // TxBytesMax
			`INSERT INTO t SELECT id + 1000, randomblob(4000), c FROM t`,
			`UPDATE t SET c = 'refused'`,
			`DELETE FROM t`,
		} {
			m.fail = func(int) fate { return refused }
			if err := h.try(sql); err == nil {
				t.Fatalf("%s did not fail", sql)
			}
			m.fail = nil
			check(t, h.conn)
			if dump(t, h.conn) != want {
				t.Fatalf("journal_mode=%s: %s left something", mode, sql)
			}
			h.exec(t, `CREATE TABLE again(a); DROP TABLE again`)
			other := open(t, Options{Source: m, ReadOnly: true})
			check(t, other.conn)
			if dump(t, other.conn) != want {
				t.Fatalf("journal_mode=%s: %s came with the next transaction", mode, sql)
			}
		}
	}
}

// slow is a Source whose pages, once armed, take until somebody gives up.
type slow struct {
	Source
	armed   *atomic.Bool
	waiting chan struct{}
}

func (s slow) Pages(ctx context.Context, pages []uint32, lsn, since logcore.LSN) ([][]byte, uint64, error) {
	if !s.armed.Load() {
		return s.Source.Pages(ctx, pages, lsn, since)
	}
	close(s.waiting)
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

// An application that gives up waiting must not have to wait for the page server.
func TestInterruptedRead(t *testing.T) {
	m := newModel()
	w := open(t, Options{Source: m})
	w.exec(t, fillSQL, 200)
	source := slow{m, new(atomic.Bool), make(chan struct{})}
	h := open(t, Options{Source: source, ReadOnly: true, ReadTimeout: time.Hour})
	query(t, h.conn, `SELECT * FROM t WHERE id = 1`)
	source.armed.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	h.conn.SetInterrupt(ctx)
	go func() {
		<-source.waiting
		cancel()
	}()
	if got, err := tryQuery(h.conn, `SELECT sum(length(b)) FROM t NOT INDEXED`); !errors.Is(err, sqlite3.INTERRUPT) {
		t.Fatalf("an interrupted read: %q, %v", got, err)
	}
	h.conn.SetInterrupt(t.Context())
	source.armed.Store(false)
	check(t, h.conn)
}

func TestDatabaseSQL(t *testing.T) {
	h := open(t, Options{Source: newModel()})
	db, err := sql.Open("sqlite3", h.db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE t(a); INSERT INTO t VALUES (41)`); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`UPDATE t SET a = a + ?`, 1); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, h.conn, `SELECT a FROM t`); got != "42" {
		t.Fatalf("a = %s", got)
	}
}

// In journal_mode=off SQLite cannot undo what a transaction has written to the file;
// here it has written nothing yet.
func TestRollbackWithoutAJournal(t *testing.T) {
	h := open(t, Options{Source: newModel()})
	h.exec(t, `PRAGMA journal_mode = off; PRAGMA cache_size = 1`)
	h.exec(t, fillSQL, 200)
	want := dump(t, h.conn)
	h.exec(t, `BEGIN; UPDATE t SET b = randomblob(2000), c = 'gone'; DELETE FROM t WHERE id > 50`)
	h.conn.Exec(`ROLLBACK`)
	check(t, h.conn)
	if dump(t, h.conn) != want {
		t.Fatal("the rollback left something")
	}
}

func TestSnapshotLSN(t *testing.T) {
	m := newModel()
	w := open(t, Options{Source: m})
	w.exec(t, `CREATE TABLE t(a)`)
	first := w.db.LSN()
	f := open(t, Options{Source: m, Follow: true})
	f.exec(t, `BEGIN; SELECT * FROM t`)
	w.exec(t, `INSERT INTO t VALUES (1)`)
	other, err := f.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := query(t, other, `SELECT * FROM t`); got != "1" {
		t.Fatalf("read %q", got)
	}
	for conn, want := range map[*sqlite3.Conn]logcore.LSN{f.conn: first, other: m.last, w.conn: m.last} {
		if got, err := SnapshotLSN(conn); err != nil || got != want {
			t.Errorf("SnapshotLSN = %d, %v; want %d", got, err, want)
		}
	}
	if got := query(t, f.conn, `SELECT count(*) FROM t`); got != "0" {
		t.Errorf("the first connection's transaction reads %s rows", got)
	}
	plain, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := SnapshotLSN(plain); err == nil {
		t.Error("an LSN of a connection to no log")
	}
}
