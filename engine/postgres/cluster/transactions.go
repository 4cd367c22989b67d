package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
)

// EditSLRU implements effect.Sink. A page that isn't there is
// one of zeros: the base backup was begun before it was made.
func (c *Cluster) EditSLRU(s effect.SLRU, n uint32, e page.Edit, _ bool) error {
	f, err := c.pages.file(s.Path(n/effect.SegmentPages), true)
	if err != nil {
		return err
	}
	p := make(page.Page, page.Bytes)
	at := int64(n%effect.SegmentPages) * page.Bytes
	if _, err := f.ReadAt(p, at); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := e.Apply(p); err != nil {
		return err
	}
	if _, err := f.WriteAt(p, at); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// DropSegments implements effect.Sink.
func (c *Cluster) DropSegments(s effect.SLRU, gone func(segment uint32) bool) error {
	entries, err := os.ReadDir(filepath.Join(c.dir, s.Dir()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, e := range entries {
		segment, err := strconv.ParseUint(e.Name(), 16, 32)
		if err != nil || !gone(uint32(segment)) {
			continue
		}
		if err := c.remove(s.Dir() + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// PutPrepared implements effect.Sink.
func (c *Cluster) PutPrepared(xid uint32, file []byte) error {
	if file == nil {
		return c.remove(effect.PreparedPath(xid))
	}
	path := filepath.Join(c.dir, effect.PreparedPath(xid))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return writeFile(path, file)
}
