package sqlite

import (
	"fmt"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// The tests of crashes are worth something only if they find a log that acknowledges
// what it does not keep.
func TestPlantedLostCommitIsFound(t *testing.T) {
	after := states(t)
	for at := 1; at < len(after); at++ {
		if after[at] == after[at-1] {
			continue // VACUUM changes no content
		}
		m := newModel()
		m.fail = func(n int) fate {
			switch {
			case n == at:
				return lied
			case n > at:
				return refused // a later rewrite of the whole file would heal it
			}
			return fine
		}
		opts := Options{Source: m, Logger: quiet}
		h := open(t, opts)
		runScript(h)
		h.close()
		m.crash()
		h = open(t, opts)
		if dump(t, h.conn) == after[at] {
			t.Errorf("append %d was acknowledged and not written, and nobody noticed", at)
		}
	}
}

// batching declares what file leaves out; see file.DeviceCharacteristics.
type batching struct{ *file }

func (batching) BeginAtomicWrite() error    { return nil }
func (batching) CommitAtomicWrite() error   { return nil }
func (batching) RollbackAtomicWrite() error { return nil }
func (b batching) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return b.file.DeviceCharacteristics() | vfs.IOCAP_BATCH_ATOMIC
}

type batchingFS struct{ fileSystem }

func (s batchingFS) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, out, err := s.fileSystem.Open(name, flags)
	if main, ok := f.(*file); ok {
		return batching{main}, out, err
	}
	return f, out, err
}

// With SQLite's own batch-atomic mode a connection misses what another one committed.
// When this fails, SQLite has changed: file may then declare BATCH_ATOMIC.
func TestPlantedBatchAtomicHidesCommits(t *testing.T) {
	h := open(t, Options{Source: newModel()})
	vfs.Register("batching", batchingFS{fileSystem{h.db}})
	defer vfs.Unregister("batching")
	var conns [2]*sqlite3.Conn
	for i := range conns {
		conn, err := sqlite3.Open("file:shop%2Forders?vfs=batching")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	if err := conns[0].Exec(`CREATE TABLE t(a); INSERT INTO t VALUES (0)`); err != nil {
		t.Fatal(err)
	}
	stale := false
	for i := range 3 {
		if err := conns[0].Exec(fmt.Sprintf(`UPDATE t SET a = %d`, i)); err != nil {
			t.Fatal(err)
		}
		stale = stale || query(t, conns[1], `SELECT a FROM t`) != fmt.Sprint(i)
	}
	if !stale {
		t.Fatal("commits are seen in batch-atomic mode, too")
	}
}
