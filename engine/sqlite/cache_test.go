package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/logcore/logcore"
)

func TestCacheIsOfOneVersion(t *testing.T) {
	c := newCache(5, 1<<20)
	c.put(5, 1, []byte("one"))
	c.put(4, 2, []byte("old"))
	c.put(6, 2, []byte("new"))
	if string(c.get(5, 1)) != "one" || c.get(4, 1) != nil || c.get(6, 1) != nil || c.has(6, 1) || c.get(5, 2) != nil {
		t.Fatal("pages of several versions")
	}
	c.put(5, 8, []byte("cut"))
	c.advance(7, 8, map[uint32][]byte{2: []byte("two")})
	c.put(5, 1, []byte("late"))
	c.put(5, 3, []byte("late"))
	if string(c.get(7, 1)) != "one" || string(c.get(7, 2)) != "two" || c.has(7, 3) || c.has(7, 8) || c.get(5, 1) != nil {
		t.Fatal("after a commit")
	}
	c.put(7, 3, make([]byte, 2<<20))
	if !c.has(7, 3) || c.has(7, 1) || c.bytes != 2<<20+entryOverhead {
		t.Fatalf("%d bytes held", c.bytes)
	}
}

// held is a Source whose next call of Pages, once armed, has its answer and does not
// give it before it is let go.
type held struct {
	Source
	armed   atomic.Bool
	waiting chan struct{}
	release chan struct{}
}

func hold(s Source) *held {
	return &held{Source: s, waiting: make(chan struct{}), release: make(chan struct{})}
}

func (s *held) Pages(ctx context.Context, pages []uint32, lsn, since logcore.LSN) ([][]byte, uint64, error) {
	got, incarnation, err := s.Source.Pages(ctx, pages, lsn, since)
	if s.armed.CompareAndSwap(true, false) {
		close(s.waiting)
		<-s.release
	}
	return got, incarnation, err
}

// SQLite reads the header of a file that it opens before it has a lock, so that another
// connection may commit meanwhile. What it read must not hide the commit.
func TestOpenBesideACommit(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, Logger: quiet})
	h.exec(t, `CREATE TABLE t(x); INSERT INTO t VALUES (1)`)
	h.close()
	s := hold(m)
	h = open(t, Options{Source: s, Logger: quiet})
	h.db.view.cache.advance(h.db.view.version, 0, nil) // nothing is cached
	s.armed.Store(true)
	opened := make(chan error)
	go func() {
		conn, err := h.db.Conn(context.Background())
		opened <- errors.Join(err, conn.Close())
	}()
	<-s.waiting
	h.exec(t, `CREATE TABLE u(y); INSERT INTO u VALUES ('kept'); UPDATE t SET x = 2`)
	close(s.release)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	conn, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := query(t, conn, `SELECT x, y FROM t, u`); got != "2|kept" {
		t.Fatalf("a new connection reads %q", got)
	}
	if err := conn.Exec(`CREATE TABLE v(z)`); err != nil {
		t.Fatal(err)
	}
	pinned := open(t, Options{Source: m, ReadOnly: true})
	check(t, pinned.conn)
	if got := query(t, pinned.conn, `SELECT group_concat(name) FROM sqlite_schema`); got != "t,u,v" {
		t.Fatalf("the log holds %q", got)
	}
}

// delayed is a Source whose pages arrive late, at a random time after they were read.
type delayed struct{ Source }

func (s delayed) Pages(ctx context.Context, pages []uint32, lsn, since logcore.LSN) ([][]byte, uint64, error) {
	got, incarnation, err := s.Source.Pages(ctx, pages, lsn, since)
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
	return got, incarnation, err
}

const (
	parallelSchema = `CREATE TABLE n(v INT); INSERT INTO n VALUES (0); CREATE TABLE t(id INTEGER PRIMARY KEY, v INT, body TEXT); CREATE INDEX t_v ON t(v)`
	parallelState  = `SELECT (SELECT v FROM n), coalesce(max(v), 0), (SELECT count(*) FROM sqlite_schema) FROM t`
)

// parallelStep is what transaction v does; state is what parallelState says after it.
func parallelStep(v int) (sql string) {
	sql = fmt.Sprintf(`INSERT OR REPLACE INTO t VALUES (%d, %d, replace(hex(zeroblob(%d)), '0', '%c')); `, v*7%40, v, v*131%3000, 'a'+v%26)
	switch {
	case v%5 == 0:
		sql += fmt.Sprintf(`CREATE TABLE x%d AS SELECT * FROM t WHERE v > %d - 3`, v, v)
	case v%7 == 0:
		sql += fmt.Sprintf(`DELETE FROM t WHERE v < %d - 20`, v)
	}
	return sql
}

// TestParallel opens connections, reads and commits through one Database, all at once,
// over a page server that is slow. Every read must see what was acknowledged before it,
// whole; in the end the log must hold what a plain SQLite does.
func TestParallel(t *testing.T) {
	for _, cacheBytes := range []int64{1, 30_000, 64 << 20} {
		t.Run(fmt.Sprint("cache=", cacheBytes), func(t *testing.T) {
			m := newModel()
			opts := Options{Source: delayed{m}, CacheBytes: cacheBytes, BusyTimeout: time.Minute, Logger: quiet}
			first := open(t, opts)
			first.exec(t, parallelSchema)
			first.close()
			h := open(t, opts)
			p := &parallel{db: h.db}
			var writers, readers sync.WaitGroup
			for range 3 {
				writers.Go(func() { p.write(t, 12) })
				readers.Go(func() { p.read(t) })
			}
			writers.Wait()
			p.done.Store(true)
			readers.Wait()
			if t.Failed() {
				return
			}
			oracle, err := sqlite3.Open(":memory:")
			if err != nil {
				t.Fatal(err)
			}
			defer oracle.Close()
			sql := parallelSchema
			for v := 1; v <= int(p.acked.Load()); v++ {
				sql += fmt.Sprintf("; UPDATE n SET v = %d; %s", v, parallelStep(v))
			}
			if err := oracle.Exec(sql); err != nil {
				t.Fatal(err)
			}
			for _, conn := range []*sqlite3.Conn{h.conn, open(t, Options{Source: m, ReadOnly: true}).conn} {
				check(t, conn)
				if got, want := dump(t, conn), dump(t, oracle); got != want {
					t.Fatalf("content\n%.500s\nwant\n%.500s", got, want)
				}
			}
		})
	}
}

type parallel struct {
	db    *Database
	acked atomic.Int64 // the last transaction that was acknowledged
	done  atomic.Bool
}

func (p *parallel) write(t *testing.T, transactions int) {
	conn, err := p.db.Conn(context.Background())
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for range transactions {
		var v int64
		err := conn.Exec(`BEGIN IMMEDIATE; UPDATE n SET v = v + 1`)
		if err == nil {
			_, err = fmt.Sscan(mustQuery(conn, `SELECT v FROM n`), &v)
		}
		if err == nil && v <= p.acked.Load() {
			err = fmt.Errorf("transaction %d was acknowledged already", v)
		}
		if err == nil {
			err = conn.Exec(parallelStep(int(v)) + `; COMMIT`)
		}
		if err != nil {
			t.Error(p.db.Explain(err))
			return
		}
		for was := p.acked.Load(); was < v && !p.acked.CompareAndSwap(was, v); was = p.acked.Load() {
		}
	}
}

func mustQuery(conn *sqlite3.Conn, sql string) string {
	out, err := tryQuery(conn, sql)
	if err != nil {
		return err.Error()
	}
	return out
}

func (p *parallel) read(t *testing.T) {
	for !p.done.Load() && !t.Failed() {
		before := p.acked.Load()
		conn, err := p.db.Conn(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		var n, last, tables int64
		state := mustQuery(conn, parallelState)
		if _, err := fmt.Sscanf(state, "%d|%d|%d", &n, &last, &tables); err != nil || n < before || last != n || tables != 3+n/5 {
			t.Errorf("after transaction %d a new connection reads %q", before, state)
		}
		conn.Close()
	}
}
