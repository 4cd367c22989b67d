package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

var forks = []wal.Fork{wal.ForkMain, wal.ForkFSM, wal.ForkVM, wal.ForkInit}

// drop removes all files of a relation.
func (c *Cluster) drop(r wal.Relation) error {
	for _, f := range forks {
		if err := c.truncate(r, f, 0); err != nil {
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

// truncate makes a fork so many pages long, when it is longer.
func (c *Cluster) truncate(r wal.Relation, f wal.Fork, pages uint32) error {
	gone := func(k forkPage) bool { return k.relation == r && k.fork == f && k.page >= pages }
	c.pages.forget(gone)
	for k := range c.missing {
		if gone(k) {
			delete(c.missing, k)
		}
	}
	for first := pages / filePages * filePages; ; first += filePages {
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

// applyStorage creates and truncates relations.
func (c *Cluster) applyStorage(r *wal.Record, f *fields) error {
	const create, truncate = 0x10, 0x20
	const truncateHeap, truncateVM = 1 << 0, 1 << 1
	switch r.Op() {
	case create:
		_, err := c.pages.file(f.relation().Path(wal.Fork(f.u32())), true)
		return err
	case truncate:
		pages, relation, flags := f.u32(), f.relation(), f.u32()
		if flags&truncateHeap != 0 {
			if err := c.truncate(relation, wal.ForkMain, pages); err != nil {
				return err
			}
		}
		if flags&truncateVM != 0 {
			return c.truncateVM(relation, pages)
		}
	}
	return nil
}

// truncateVM clears what a visibility map says of pages that are gone.
func (c *Cluster) truncateVM(r wal.Relation, heapPages uint32) error {
	const heapPagesPerByte, bitsPerHeapPage = 4, 2
	const perMapPage = (page.Bytes - 24) * heapPagesPerByte
	mapPage, inPage := heapPages/perMapPage, heapPages%perMapPage
	if inPage == 0 {
		return c.truncate(r, wal.ForkVM, mapPage)
	}
	p, err := c.pages.get(forkPage{r, wal.ForkVM, mapPage}, false)
	if err != nil || p == nil {
		return err
	}
	bits := p.data.Content()
	at, shift := inPage/heapPagesPerByte, inPage%heapPagesPerByte*bitsPerHeapPage
	clear(bits[at+1:])
	bits[at] &= 1<<shift - 1
	p.dirty = true
	return c.truncate(r, wal.ForkVM, mapPage+1)
}

// applyDatabase copies, makes and drops databases.
func (c *Cluster) applyDatabase(r *wal.Record, f *fields) error {
	const copyFiles, create, drop = 0x00, 0x10, 0x20
	switch r.Op() {
	case copyFiles:
		db, tablespace, fromDB, fromTablespace := f.u32(), f.u32(), f.u32(), f.u32()
		if err := c.pages.flush(); err != nil {
			return err
		}
		if err := c.dropDatabase(tablespace, db); err != nil {
			return err
		}
		return copyDir(filepath.Join(c.dir, wal.DatabasePath(fromTablespace, fromDB)), filepath.Join(c.dir, wal.DatabasePath(tablespace, db)))
	case create:
		db, tablespace := f.u32(), f.u32()
		dir := filepath.Join(c.dir, wal.DatabasePath(tablespace, db))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		return writeFile(filepath.Join(dir, "PG_VERSION"), []byte("15\n"))
	case drop:
		db, n := f.u32(), f.u32()
		for range n {
			if f.short {
				return errShort
			}
			if err := c.dropDatabase(f.u32(), db); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) dropDatabase(tablespace, db uint32) error {
	gone := func(k forkPage) bool { return k.relation.Tablespace == tablespace && k.relation.Database == db }
	c.pages.forget(gone)
	for k := range c.missing {
		if gone(k) {
			delete(c.missing, k)
		}
	}
	if err := c.pages.closeFiles(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(c.dir, wal.DatabasePath(tablespace, db))); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// applyTablespace makes and drops tablespaces. Their files stay inside the data
// directory, wherever the server had them.
func (c *Cluster) applyTablespace(r *wal.Record, f *fields) error {
	const create, drop = 0x00, 0x10
	path := filepath.Join(c.dir, "pg_tblspc", fmt.Sprint(f.u32()))
	switch r.Op() {
	case create:
		if err := os.MkdirAll(filepath.Join(path, wal.TablespaceDirectory), 0o700); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	case drop:
		if err := c.pages.closeFiles(); err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}

// applyRelMap replaces a map from mapped relations, the catalogs, to their files.
func (c *Cluster) applyRelMap(_ *wal.Record, f *fields) error {
	const mapBytes, checksumAt = 512, 504
	db, tablespace, n := f.u32(), f.u32(), f.u32()
	b := f.take(mapBytes)
	if n != mapBytes || f.short {
		return fmt.Errorf("%w: a relation map of %d bytes", logcore.ErrUnsupportedVersion, n)
	}
	content := append([]byte(nil), b...)
	putChecksum(content[checksumAt:], content[:checksumAt])
	dir := filepath.Join(c.dir, wal.DatabasePath(tablespace, db))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return writeFile(filepath.Join(dir, "pg_filenode.map"), content)
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
