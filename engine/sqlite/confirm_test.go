package sqlite

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// restore takes the log back to what it held after its first count transactions.
func (m *model) restore(count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.txs, m.last, m.replayed = m.txs[:count], m.txs[count-1].lsn, nil
	m.ingested, m.active, m.epoch = m.last, false, 0
	m.incarnation++
}

// later makes what the Database knows of the service older than confirmEvery.
func (h *handle) later() {
	h.db.mu.Lock()
	defer h.db.mu.Unlock()
	h.db.confirmed = time.Now().Add(-time.Hour)
}

// Once it can know that it was fenced, a writer must not read what was the log's end.
func TestFencedWriterReads(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		m := newModel()
		a := open(t, Options{Source: m, Logger: quiet})
		a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
		b := open(t, Options{Source: m, Takeover: true, Logger: quiet})
		b.exec(t, `INSERT INTO t VALUES (2)`)
		if renewed {
			// The lease's renewal has told the Writer.
			a.db.writer.(*modelWriter).err = logcore.ErrFenced
		} else {
			a.later()
		}
		if _, err := tryQuery(a.conn, `SELECT * FROM t`); !errors.Is(a.db.Explain(err), logcore.ErrFenced) {
			t.Fatalf("the fenced writer reads: %v", err)
		}
		refusesAll(t, a)
	}
}

// A transaction that has begun to read must not go on in a Database that refuses.
func TestPoisonReachesOpenTransactions(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, CacheBytes: 1, Logger: quiet})
	h.exec(t, fillSQL, 100)
	h.exec(t, `PRAGMA cache_size = 1; BEGIN; SELECT * FROM t WHERE id = 1`)
	other, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	open(t, Options{Source: m, Takeover: true, WriteNow: true, Logger: quiet})
	h.later()
	if _, err := tryQuery(other, `SELECT * FROM t`); !errors.Is(h.db.Explain(err), logcore.ErrFenced) {
		t.Fatalf("another connection reads: %v", err)
	}
	if _, err := tryQuery(h.conn, `SELECT * FROM t`); !errors.Is(h.db.Explain(err), logcore.ErrFenced) {
		t.Fatalf("the transaction goes on: %v", err)
	}
}

// After a restore LSNs are given out again, and so are SQLite's change counters and
// writer epochs. Whoever lives through it must notice before it shows what is lost,
// mixes it with what is new, or writes.
func TestRestore(t *testing.T) {
	small := Options{CacheBytes: 1, Logger: quiet}
	with := func(f func(*Options)) Options {
		o := small
		f(&o)
		return o
	}
	for name, tc := range map[string]struct {
		opts          Options
		before, after string
	}{
		"following":              {opts: with(func(o *Options) { o.Follow = true }), before: `SELECT * FROM t`, after: `SELECT * FROM t`},
		"following, transaction": {opts: with(func(o *Options) { o.Follow = true }), before: `BEGIN; SELECT * FROM t WHERE id = 1`, after: `SELECT * FROM t`},
		"following, all cached":  {opts: Options{Logger: quiet, Follow: true}, before: `SELECT * FROM t`, after: `SELECT * FROM t`},
		"read-only":              {opts: with(func(o *Options) { o.ReadOnly = true }), before: `SELECT 1`, after: `SELECT * FROM t`},
		"not writing yet":        {opts: small, before: `SELECT * FROM t`, after: `SELECT * FROM t`},
		"first write":            {opts: small, before: `BEGIN; SELECT * FROM t`, after: `INSERT INTO t VALUES (5000, '', '')`},
		"writer reads":           {opts: small, before: `INSERT INTO t VALUES (5000, '', '')`, after: `SELECT * FROM t WHERE id = 1`},
		"writer writes":          {opts: small, before: `INSERT INTO t VALUES (5000, '', '')`, after: `INSERT INTO t VALUES (5001, '', '')`},
		"writer commits":         {opts: small, before: `BEGIN IMMEDIATE; INSERT INTO t VALUES (5000, '', '')`, after: `COMMIT`},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel()
			w := open(t, Options{Source: m, Logger: quiet})
			w.exec(t, fillSQL, 200)
			kept := len(m.txs)
			w.exec(t, `INSERT INTO t VALUES (1000, 'lost', '')`)
			w.close()
			tc.opts.Source = m
			h := open(t, tc.opts)
			h.exec(t, `PRAGMA cache_size = 1`)
			h.exec(t, "%s", tc.before)
			m.restore(kept)
			other := open(t, Options{Source: m, Logger: quiet})
			other.exec(t, `INSERT INTO t VALUES (1000, 'new', '')`)
			if m.last != h.db.LSN() && h.db.Epoch() == 0 {
				t.Fatalf("the new transaction is at LSN %d, the lost one was at %d", m.last, h.db.LSN())
			}
			other.close()
			h.later()
			appends := m.appends
			if err := h.try(tc.after); !errors.Is(err, ErrRestored) {
				t.Errorf("%s: %v", tc.after, err)
			}
			if m.appends != appends {
				t.Error("it wrote into a log that is not the one that it opened")
			}
			h.conn.Exec(`ROLLBACK`)
			if got, err := tryQuery(h.conn, `SELECT * FROM t`); err == nil {
				t.Errorf("then it reads %.100q", got)
			}
			if conn, err := h.db.Conn(t.Context()); !errors.Is(err, ErrRestored) {
				t.Errorf("a new connection: %v", errors.Join(err, conn.Close()))
			}
			other = open(t, Options{Source: m, ReadOnly: true})
			check(t, other.conn)
			if got := query(t, other.conn, `SELECT group_concat(b) FROM t WHERE id >= 1000`); got != "new" {
				t.Errorf("the log holds %q", got)
			}
		})
	}
}

// A log that is gone with everything else is no empty database.
func TestLogGone(t *testing.T) {
	m := newModel()
	w := open(t, Options{Source: m, Logger: quiet})
	w.exec(t, `CREATE TABLE t(a)`)
	w.close()
	h := open(t, Options{Source: m, Logger: quiet})
	m.exists = false
	if err := h.try(`SELECT * FROM t`); !errors.Is(err, ErrRestored) {
		t.Fatalf("reading a log that is gone: %v", err)
	}
}

// An LSN that the log has not reached may never be written; one that only the page
// server lacks will come.
func TestLSNInTheFuture(t *testing.T) {
	m := newModel()
	w := open(t, Options{Source: m, Logger: quiet})
	w.exec(t, `CREATE TABLE t(a)`)
	s := &deadlines{Source: m}
	for _, at := range []logcore.LSN{m.last, m.last + 1} {
		m.lagging, m.ingested = true, m.last-1
		var lag *logcore.LagError
		if _, err := tryOpen(Options{Source: s, LSN: at, ReadTimeout: time.Hour}); !errors.As(err, &lag) {
			t.Fatalf("LSN %d: %v", at, err)
		}
		if short := s.left <= futureWait; short != (at > m.last) || s.left == 0 {
			t.Errorf("LSN %d of %d: Open waits %v", at, m.last, s.left)
		}
	}
}

// deadlines notes how long a caller would wait for a size.
type deadlines struct {
	Source
	left time.Duration
}

func (s *deadlines) Size(ctx context.Context, lsn logcore.LSN) (Size, error) {
	deadline, _ := ctx.Deadline()
	s.left = time.Until(deadline)
	return s.Source.Size(ctx, lsn)
}
