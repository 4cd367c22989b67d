package sqlite

import (
	"fmt"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// tracing is the VFS of a Database that writes down what SQLite asks for.
type tracing struct {
	fileSystem
	calls *[]string
}

func (s tracing) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, out, err := s.fileSystem.Open(name, flags)
	if main, ok := f.(*file); ok {
		return &tracedFile{main, s.calls}, out, err
	}
	*s.calls = append(*s.calls, fmt.Sprintf("open %x", flags))
	return f, out, err
}

type tracedFile struct {
	*file
	calls *[]string
}

func (f *tracedFile) note(format string, args ...any) {
	*f.calls = append(*f.calls, fmt.Sprintf(format, args...))
}
func (f *tracedFile) Lock(l vfs.LockLevel) error   { f.note("lock %d", l); return f.file.Lock(l) }
func (f *tracedFile) Unlock(l vfs.LockLevel) error { f.note("unlock %d", l); return f.file.Unlock(l) }
func (f *tracedFile) WriteAt(b []byte, off int64) (int, error) {
	f.note("write %d+%d", off, len(b))
	return f.file.WriteAt(b, off)
}
func (f *tracedFile) ReadAt(b []byte, off int64) (int, error) {
	f.note("read %d+%d", off, len(b))
	return f.file.ReadAt(b, off)
}
func (f *tracedFile) Truncate(n int64) error    { f.note("truncate %d", n); return f.file.Truncate(n) }
func (f *tracedFile) CommitPhaseTwo() error     { f.note("phase two"); return f.file.CommitPhaseTwo() }
func (f *tracedFile) Sync(x vfs.SyncFlag) error { f.note("sync"); return f.file.Sync(x) }
func (f *tracedFile) SyncSuper(s string) error  { f.note("super %q", s); return f.file.SyncSuper(s) }

func TestTrace(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m})
	var calls []string
	vfs.Register("trace", tracing{fileSystem{h.db}, &calls})
	conn, err := sqlite3.Open("file:shop%2Forders?vfs=trace")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run := func(sql string) {
		calls = nil
		if err := conn.Exec(sql); err != nil {
			t.Logf("%s: %v", sql, err)
		}
		t.Logf("%s\n    %q", sql, calls)
	}
	run(`PRAGMA auto_vacuum=full`)
	run(`CREATE TABLE t(id INTEGER PRIMARY KEY, b)`)
	run(`PRAGMA journal_mode`)
	run(`INSERT INTO t VALUES (1, randomblob(20000))`)
	run(`DELETE FROM t`)
	run(`PRAGMA cache_size=1`)
	run(`INSERT INTO t VALUES (1, randomblob(60000))`)
	run(`PRAGMA journal_mode=truncate`)
	run(`BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, randomblob(60000)); ROLLBACK`)
	run(`PRAGMA synchronous=off`)
	run(`INSERT INTO t VALUES (2, 1)`)
	run(`PRAGMA synchronous=full`)
	run(`ATTACH 'file:/tmp/zz.db?vfs=os' AS o; `)
	run(`CREATE TABLE o.x(a); `)
	run(`BEGIN; INSERT INTO o.x VALUES(1); INSERT INTO t VALUES (3,1); COMMIT`)
	run(`ROLLBACK; DETACH o`)
	m.fail = func(int) fate { return refused }
	run(`INSERT INTO t VALUES (6, 1)`)
	m.fail = nil
	run(`INSERT INTO t VALUES (7, 1)`)
	m.fail = func(int) fate { return lostAfter }
	run(`INSERT INTO t VALUES (8, 1)`)
	run(`INSERT INTO t VALUES (9, 1)`)
	run(`SELECT * FROM t`)
}
