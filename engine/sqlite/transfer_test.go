package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/logcore/logcore"
)

// sqliteFile makes an SQLite file the ordinary way.
func sqliteFile(t *testing.T, sql string) (path, content string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a file?#%20.db")
	uri, err := fileURI(path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite3.Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec(sql); err != nil {
		t.Fatal(err)
	}
	return path, dump(t, conn)
}

const fillSQL = `CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB, c TEXT); CREATE INDEX t_c ON t(c);
	WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO t SELECT i, randomblob(i %% 3000), hex(randomblob(8)) FROM n;`

func TestImportExport(t *testing.T) {
	for _, c := range []struct{ name, pragma string }{
		{"default", ``},
		{"small pages", `PRAGMA page_size = 512;`},
		{"large pages", `PRAGMA page_size = 65536;`},
		{"auto_vacuum", `PRAGMA auto_vacuum = incremental;`},
		{"utf-16", `PRAGMA encoding = 'UTF-16le';`},
		{"wal", `PRAGMA journal_mode = wal;`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, want := sqliteFile(t, c.pragma+fmt.Sprintf(fillSQL, 400))
			m := newModel()
			m.entryMax = 70_000 // so that it takes parts
			h := open(t, Options{Source: m})
			seen := 0
			got, err := Import(t.Context(), h.db, path, TransferOptions{Progress: func(done, total int) { seen = done }})
			if err != nil {
				t.Fatal(err)
			}
			if got.Pages == 0 || seen != got.Pages || got.LSN != m.last || len(m.txs) != 1 || len(m.txs[0].parts) < 2 {
				t.Fatalf("imported %+v, progress %d; the log has %d transactions", got, seen, len(m.txs))
			}
			check(t, h.conn)
			if dump(t, h.conn) != want {
				t.Fatal("imported content differs from the file's")
			}
			// The old content must stay readable at its LSN once there is a new one.
			h.exec(t, `DELETE FROM t WHERE id %% 2 = 0; INSERT INTO t VALUES (-1, 'new', 'new')`)
			pinned := open(t, Options{Source: m, LSN: got.LSN})
			out := filepath.Join(t.TempDir(), "out.db")
			exported, err := Export(t.Context(), pinned.db, out, TransferOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if exported.LSN != got.LSN || exported.Pages != got.Pages {
				t.Fatalf("exported %+v, imported %+v", exported, got)
			}
			compareFile(t, out, want)
			if _, err := Export(t.Context(), h.db, out, TransferOptions{}); !errors.Is(err, logcore.ErrInvalid) {
				t.Fatalf("export over a file: %v", err)
			}
			if _, err := Export(t.Context(), h.db, out, TransferOptions{Replace: true}); err != nil {
				t.Fatal(err)
			}
			compareFile(t, out, dump(t, h.conn))
			if names, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); len(names) != 1 {
				t.Fatalf("export left %q", names)
			}
		})
	}
}

func compareFile(t *testing.T, path, want string) {
	t.Helper()
	uri, err := fileURI(path, "ro")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite3.Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check(t, conn)
	if dump(t, conn) != want {
		t.Fatalf("%s does not hold what it should", path)
	}
}

func TestImportRefuses(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m})
	good, want := sqliteFile(t, fmt.Sprintf(fillSQL, 100))
	damaged, _ := sqliteFile(t, fmt.Sprintf(fillSQL, 100))
	data, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8192; i < 12288; i++ {
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("this is no database, however long the text may be made to look like one, "), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{damaged, text, filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		if _, err := Import(t.Context(), h.db, path, TransferOptions{}); err == nil {
			t.Errorf("%s was imported", path)
		} else {
			t.Log(err)
		}
	}
	if len(m.txs) != 0 {
		t.Fatalf("refused imports left %d transactions", len(m.txs))
	}
	if _, err := Import(t.Context(), h.db, good, TransferOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), h.db, good, TransferOptions{}); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("import over content: %v", err)
	}
	// Replacing by a file with another page size.
	other, want2 := sqliteFile(t, `PRAGMA page_size = 1024;`+fmt.Sprintf(fillSQL, 30))
	if dump(t, h.conn) != want {
		t.Fatal("wrong content before replacing")
	}
	if _, err := Import(t.Context(), h.db, other, TransferOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	check(t, h.conn)
	if dump(t, h.conn) != want2 {
		t.Fatal("wrong content after replacing")
	}
	readOnly := open(t, Options{Source: m, ReadOnly: true})
	if _, err := Import(t.Context(), readOnly.db, good, TransferOptions{Replace: true}); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("import into a read-only database: %v", err)
	}
	if dump(t, readOnly.conn) != want2 {
		t.Fatal("the read-only database reads something else")
	}
}
