package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
)

// stepPages is how many pages are copied between two looks at the context.
const stepPages = 1024

// TransferOptions of Import and Export.
type TransferOptions struct {
	// Replace lets Import replace a database that holds something, and Export a file that exists.
	Replace bool
	// Progress is told how many pages of how many have been copied; nil for nobody.
	Progress func(done, total int)
}

// Transferred is what was copied.
type Transferred struct {
	Pages int
	LSN   logcore.LSN // the import's commit, or the snapshot that was exported
}

// Import makes db's content that of an SQLite file, in one transaction: all of it or,
// after an error, nothing. The file is checked with SQLite's integrity_check first and
// not changed; committed content of its write-ahead log comes along. The whole
// database is held in memory until it commits (Options.TxBytesMax).
func Import(ctx context.Context, db *Database, path string, opts TransferOptions) (Transferred, error) {
	fail := func(err error) (Transferred, error) {
		return Transferred{}, fmt.Errorf("sqlite: import %s into log %q: %w", path, db.opts.Log, db.Explain(err))
	}
	source, err := fileURI(path, "ro")
	if err != nil {
		return fail(err)
	}
	conn, err := sqlite3.OpenContext(ctx, source)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	conn.SetInterrupt(ctx)
	if err := integrity(conn); err != nil {
		return fail(err)
	}
	if err := db.mayImport(ctx, opts.Replace); err != nil {
		return fail(err)
	}
	pages, err := copyPages(ctx, conn, db.DSN(), opts.Progress)
	if err != nil {
		return fail(err)
	}
	return Transferred{Pages: pages, LSN: db.LastCommit().LSN}, nil
}

// mayImport refuses to write over what the database holds.
func (db *Database) mayImport(ctx context.Context, replace bool) error {
	if db.opts.ReadOnly {
		return fmt.Errorf("%w: the database is open read-only", logcore.ErrInvalid)
	}
	if replace {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	holds, err := firstColumn(conn, `SELECT name FROM sqlite_schema LIMIT 3`)
	if err != nil {
		return err
	}
	if len(holds) > 0 {
		return fmt.Errorf("%w: the database is not empty, it holds %q: import into a new log, or --replace what is there", logcore.ErrInvalid, holds)
	}
	return nil
}

// Export writes db, as of the snapshot that it reads now, to a standard SQLite file
// of its own: checked with integrity_check, synced and only then given its name.
func Export(ctx context.Context, db *Database, path string, opts TransferOptions) (Transferred, error) {
	fail := func(err error) (Transferred, error) {
		return Transferred{}, fmt.Errorf("sqlite: export log %q to %s: %w", db.opts.Log, path, db.Explain(err))
	}
	if _, err := os.Lstat(path); err == nil && !opts.Replace {
		return fail(fmt.Errorf("%w: the file exists: choose another name, or --replace it", logcore.ErrInvalid))
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".logcore-export-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	conn, err := db.Conn(ctx)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	conn.SetInterrupt(ctx)
	temp := filepath.Join(dir, "database")
	target, err := fileURI(temp, "rwc")
	if err != nil {
		return fail(err)
	}
	// The transaction holds the snapshot for the whole copy.
	tx := conn.Begin()
	defer tx.Rollback()
	if _, err := firstColumn(conn, `SELECT count(*) FROM sqlite_schema`); err != nil {
		return fail(err)
	}
	lsn, err := SnapshotLSN(conn)
	if err != nil {
		return fail(err)
	}
	pages, err := copyPages(ctx, conn, target, opts.Progress)
	if err != nil {
		return fail(err)
	}
	if err := publish(temp, path); err != nil {
		return fail(err)
	}
	return Transferred{Pages: pages, LSN: lsn}, nil
}

// publish checks the file, makes it durable and gives it its name.
func publish(temp, path string) error {
	uri, err := fileURI(temp, "ro")
	if err != nil {
		return err
	}
	conn, err := sqlite3.Open(uri)
	if err != nil {
		return err
	}
	err = integrity(conn)
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// copyPages copies the main database of conn to the one that uri names, in one
// transaction there.
func copyPages(ctx context.Context, conn *sqlite3.Conn, uri string, progress func(done, total int)) (int, error) {
	backup, err := conn.BackupInit("main", uri)
	if err != nil {
		return 0, err
	}
	defer backup.Close()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		done, err := backup.Step(stepPages)
		if err != nil {
			return 0, err
		}
		if progress != nil {
			progress(backup.PageCount()-backup.Remaining(), backup.PageCount())
		}
		if done {
			return backup.PageCount(), backup.Close()
		}
	}
}

// integrity runs SQLite's own check.
func integrity(conn *sqlite3.Conn) error {
	found, err := firstColumn(conn, `PRAGMA integrity_check`)
	if err != nil {
		return err
	}
	if len(found) != 1 || found[0] != "ok" {
		return fmt.Errorf("%w: integrity_check: %q", logcore.ErrCorrupt, found)
	}
	return nil
}

func firstColumn(conn *sqlite3.Conn, sql string) ([]string, error) {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	var out []string
	for stmt.Step() {
		out = append(out, stmt.ColumnText(0))
	}
	return out, stmt.Err()
}

// fileURI names a local file for SQLite, whatever characters its path has.
func fileURI(path, mode string) (string, error) {
	if mode == "ro" {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() {
			return "", fmt.Errorf("%w: %s is not a regular file", logcore.ErrInvalid, path)
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: "vfs=os&mode=" + mode}
	return u.String(), nil
}
