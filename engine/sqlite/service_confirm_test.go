package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// eventually repeats a read until it fails, and returns how.
func eventually(t *testing.T, h *handle, sql string) error {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := tryQuery(h.conn, sql); err != nil {
			return h.db.Explain(err)
		}
	}
	t.Fatalf("%s: still reads", sql)
	return nil
}

func TestFencedWriterReadsOnTheService(t *testing.T) {
	s := startService(t, 1<<20)
	a := open(t, Options{Log: "shop", Source: s.log(t, "shop"), Logger: quiet})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	b := open(t, Options{Log: "shop", Source: s.log(t, "shop"), Takeover: true, Logger: quiet})
	b.exec(t, `INSERT INTO t VALUES (2)`)
	if err := eventually(t, a, `SELECT * FROM t`); !errors.Is(err, logcore.ErrFenced) {
		t.Fatalf("the fenced writer reads: %v", err)
	}
	refusesAll(t, a)
}

// TestServiceBegunAnew puts another log service and page server in the place of the
// ones that the databases were opened on, with a log of the same name and length.
func TestServiceBegunAnew(t *testing.T) {
	s := startService(t, 1<<20)
	write := func(what string) {
		h := open(t, Options{Log: "shop", Source: s.log(t, "shop"), Logger: quiet})
		h.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES ('%s')`, what)
		h.close()
	}
	write("lost")
	follow := open(t, Options{Log: "shop", Source: s.log(t, "shop"), Follow: true, Logger: quiet})
	pinned := open(t, Options{Log: "shop", Source: s.log(t, "shop"), ReadOnly: true, CacheBytes: 1, Logger: quiet})
	writer := open(t, Options{Log: "shop", Source: s.log(t, "shop"), WriteNow: true, Logger: quiet})
	for _, h := range []*handle{follow, writer} {
		if got := query(t, h.conn, `SELECT a FROM t`); got != "lost" {
			t.Fatalf("read %q", got)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.dir = t.TempDir()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	write("new")
	for name, h := range map[string]*handle{"following": follow, "pinned": pinned} {
		if _, err := tryQuery(h.conn, `SELECT a FROM t`); !errors.Is(h.db.Explain(err), ErrRestored) {
			t.Errorf("%s: %v", name, h.db.Explain(err))
		}
	}
	// The writer may have heard of it from its lease's renewal, to which it is a fencing.
	writer.later()
	_, err := tryQuery(writer.conn, `SELECT a FROM t`)
	for _, err := range []error{writer.db.Explain(err), writer.try(`INSERT INTO t VALUES ('late')`)} {
		if !errors.Is(err, ErrRestored) && !errors.Is(err, logcore.ErrFenced) {
			t.Errorf("writing: %v", err)
		}
	}
	h := open(t, Options{Log: "shop", Source: s.log(t, "shop"), ReadOnly: true})
	if got := query(t, h.conn, `SELECT a FROM t`); got != "new" {
		t.Errorf("the log holds %q", got)
	}
}
