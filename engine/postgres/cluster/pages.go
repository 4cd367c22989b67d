package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// forkPage names a page.
type forkPage struct {
	relation wal.Relation
	fork     wal.Fork
	page     uint32
}

const (
	// cachePages bounds the pages in memory, 128 MiB of them.
	cachePages = 1 << 14
	openFiles  = 128
)

type cachedPage struct {
	data  page.Page
	dirty bool
}

// pageCache holds pages of relation files. When it is full everything goes to the
// files and it begins anew: replay mostly comes back to the same few pages.
type pageCache struct {
	dir   string
	sums  bool // pages have checksums
	pages map[forkPage]*cachedPage
	files map[string]*os.File
}

func (c *pageCache) init(dir string, sums bool) {
	*c = pageCache{dir: dir, sums: sums, pages: map[forkPage]*cachedPage{}, files: map[string]*os.File{}}
}

func (k forkPage) path() string {
	path, _ := k.relation.FilePath(k.fork, k.page)
	return path
}

func (k forkPage) offset() int64 { return int64(k.page%wal.FilePages) * page.Bytes }

// get returns a page. One that does not exist is nil, or, with create, all zeros.
func (c *pageCache) get(k forkPage, create bool) (*cachedPage, error) {
	if p := c.pages[k]; p != nil {
		return p, nil
	}
	data := make(page.Page, page.Bytes)
	f, err := c.file(k.path(), create)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n, err := f.ReadAt(data, k.offset())
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if n < page.Bytes {
		if !create {
			return nil, nil
		}
		clear(data)
	}
	if len(c.pages) >= cachePages {
		if err := c.flush(); err != nil {
			return nil, err
		}
		clear(c.pages)
	}
	p := &cachedPage{data: data, dirty: n < page.Bytes}
	c.pages[k] = p
	return p, nil
}

// file opens a file, relative to the data directory.
func (c *pageCache) file(path string, create bool) (*os.File, error) {
	if f := c.files[path]; f != nil {
		return f, nil
	}
	if len(c.files) >= openFiles {
		if err := c.closeFiles(); err != nil {
			return nil, err
		}
	}
	full := filepath.Join(c.dir, path)
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	f, err := os.OpenFile(full, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c.files[path] = f
	return f, nil
}

// flush writes the changed pages.
func (c *pageCache) flush() error {
	for k, p := range c.pages {
		if !p.dirty {
			continue
		}
		f, err := c.file(k.path(), true)
		if err != nil {
			return err
		}
		if c.sums && !p.data.IsNew() {
			p.data.SetChecksum(p.data.ComputeChecksum(k.page))
		}
		if _, err := f.WriteAt(p.data, k.offset()); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		p.dirty = false
	}
	return nil
}

func (c *pageCache) closeFiles() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	clear(c.files)
	return errors.Join(errs...)
}

func (c *pageCache) close() error {
	clear(c.pages)
	return c.closeFiles()
}

// forget drops the pages that which accepts, unwritten.
func (c *pageCache) forget(which func(forkPage) bool) {
	for k := range c.pages {
		if which(k) {
			delete(c.pages, k)
		}
	}
}
