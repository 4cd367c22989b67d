package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Drop implements effect.Sink.
func (c *Cluster) Drop(r wal.Relation) error {
	for _, f := range effect.Forks {
		if err := c.Truncate(r, f, 0); err != nil {
			return err
		}
		if err := c.remove(r.Path(f)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file that may not be there.
func (c *Cluster) remove(path string) error {
	if f := c.pages.files[path]; f != nil {
		f.Close()
		delete(c.pages.files, path)
	}
	if err := os.Remove(filepath.Join(c.dir, path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Truncate implements effect.Sink.
func (c *Cluster) Truncate(r wal.Relation, f wal.Fork, pages uint32) error {
	gone := func(k forkPage) bool { return k.relation == r && k.fork == f && k.page >= pages }
	c.pages.forget(gone)
	c.forgetMissing(gone)
	for first := pages / wal.FilePages * wal.FilePages; ; first += wal.FilePages {
		path := forkPage{r, f, first}.path()
		info, err := os.Stat(filepath.Join(c.dir, path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		if first > pages {
			if err := c.remove(path); err != nil {
				return err
			}
			continue
		}
		if want := int64(pages-first) * page.Bytes; info.Size() > want {
			if err := os.Truncate(filepath.Join(c.dir, path), want); err != nil {
				return fmt.Errorf("cluster: %w", err)
			}
		}
	}
}

// Create implements effect.Sink.
func (c *Cluster) Create(rel wal.Relation, f wal.Fork) error {
	_, err := c.pages.file(rel.Path(f), true)
	return err
}

// CopyDatabase implements effect.Sink.
func (c *Cluster) CopyDatabase(to, from effect.Database) error {
	if err := c.pages.flush(); err != nil {
		return err
	}
	if err := c.DropDatabase(to); err != nil {
		return err
	}
	return copyDir(c.databaseDir(from), c.databaseDir(to))
}

func (c *Cluster) databaseDir(d effect.Database) string {
	return filepath.Join(c.dir, wal.DatabasePath(d.Tablespace, d.OID))
}

// CreateDatabase implements effect.Sink.
func (c *Cluster) CreateDatabase(d effect.Database) error {
	dir := c.databaseDir(d)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return writeFile(filepath.Join(dir, "PG_VERSION"), []byte(versionFile))
}

// versionFile is the content of PG_VERSION.
const versionFile = "15\n"

// DropDatabase implements effect.Sink.
func (c *Cluster) DropDatabase(d effect.Database) error {
	gone := func(k forkPage) bool { return k.relation.Tablespace == d.Tablespace && k.relation.Database == d.OID }
	c.pages.forget(gone)
	c.forgetMissing(gone)
	if err := c.pages.closeFiles(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.databaseDir(d)); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// CreateTablespace implements effect.Sink. A tablespace's files stay inside the data
// directory, wherever the server had them.
func (c *Cluster) CreateTablespace(oid uint32) error {
	if err := os.MkdirAll(filepath.Join(c.dir, tablespacePath(oid), wal.TablespaceDirectory), 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

func tablespacePath(oid uint32) string { return fmt.Sprintf("pg_tblspc/%d", oid) }

// DropTablespace implements effect.Sink.
func (c *Cluster) DropTablespace(oid uint32) error {
	if err := c.pages.closeFiles(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(c.dir, tablespacePath(oid))); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// PutRelationMap implements effect.Sink.
func (c *Cluster) PutRelationMap(d effect.Database, content []byte) error {
	dir := c.databaseDir(d)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return writeFile(filepath.Join(dir, effect.RelationMapPath), content)
}

// copyDir copies the files of a directory; there are no directories inside.
func copyDir(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		entries = nil // dropped later in the log, so it isn't in the base backup any more
	} else if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), "pgsql_tmp") {
			continue
		}
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}
