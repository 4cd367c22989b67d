// Package segdir is a directory of segment files: what it holds and in which order, where
// an error is, and which of the files are open.
package segdir

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/durable"
)

// Names of files.
const (
	Suffix    = ".seg"      // a segment file; which segment it holds, its header says
	TmpSuffix = ".tmp"      // a file under preparation, worthless after a crash
	Importing = "IMPORTING" // stands in a directory while package importer fills it
)

// Name returns the name of a segment file, and its name while it is prepared.
func Name(slot uint64) (name, tmp string) {
	return fmt.Sprintf("%08d%s", slot, Suffix), fmt.Sprintf("%08d%s", slot, TmpSuffix)
}

// Segment is a segment file as the directory holds it.
type Segment struct {
	Name     string
	File     media.File
	Identity segment.Identity
}

// Contents is what a directory holds.
type Contents struct {
	Live      []Segment // by first LSN
	Free      []Segment
	Tmp       []string
	Importing bool
	SlotMax   uint64 // the highest number of a file's name
	dir       media.Dir
}

// Load opens and identifies every segment file. Each bad file is an error of its
// own; files are returned open even then.
func Load(dir media.Dir) (c Contents, err error) {
	c.dir = dir
	names, err := dir.List()
	if err != nil {
		return c, fmt.Errorf("hotlog: %w", err)
	}
	var errs []error
	for _, name := range names {
		switch {
		case name == Importing:
			c.Importing = true
		case strings.HasSuffix(name, TmpSuffix):
			c.Tmp = append(c.Tmp, name)
		case strings.HasSuffix(name, Suffix):
			if slot, err := strconv.ParseUint(strings.TrimSuffix(name, Suffix), 10, 64); err == nil {
				c.SlotMax = max(c.SlotMax, slot)
			}
			errs = append(errs, c.add(name))
		}
	}
	slices.SortFunc(c.Live, func(a, b Segment) int { return cmp.Compare(a.Identity.Header.ID.First, b.Identity.Header.ID.First) })
	return c, errors.Join(errs...)
}

// add opens and identifies one file.
func (c *Contents) add(name string) error {
	f, err := c.dir.Open(name)
	if err != nil {
		return fmt.Errorf("hotlog: %w", err)
	}
	file := Segment{Name: name, File: f}
	block := make([]byte, min(segment.FramesOffset, f.Size()))
	if n, err := f.ReadAt(block, 0); n < len(block) {
		f.Close()
		return fmt.Errorf("hotlog: read %s/%s: %w", c.dir.Path(), name, err)
	}
	file.Identity, err = segment.Identify(block)
	if err != nil {
		f.Close()
		return InFile(c.dir, name, err)
	}
	if file.Identity.State == segment.StateFree {
		c.Free = append(c.Free, file)
	} else {
		c.Live = append(c.Live, file)
	}
	return nil
}

// CloseFiles closes every file.
func (c *Contents) CloseFiles() {
	for _, x := range slices.Concat(c.Live, c.Free) {
		x.File.Close()
	}
}

// Recover reads Live[i], with what its neighbours prove of it.
func (c *Contents) Recover(i int, o segment.RecoverOptions) (segment.Recovered, error) {
	x := c.Live[i]
	if i+1 < len(c.Live) {
		o.Proven = c.Live[i+1].Identity.Header.ID.First - 1
	}
	r, err := segment.Recover(x.File, x.File.Size(), x.Identity, o)
	if err != nil {
		return r, InFile(c.dir, x.Name, err)
	}
	return r, nil
}

// Follows checks that Live[i+1] continues the segment recovered as Live[i].
func (c *Contents) Follows(i int, r segment.Recovered) error {
	if i+1 >= len(c.Live) {
		return nil
	}
	next := c.Live[i+1]
	h := next.Identity.Header
	if r.Sealed && r.Last+1 == h.ID.First && r.Sum == h.Prev && h.ID.Shard == r.ID.Shard {
		return nil
	}
	return &logcore.CorruptionError{Place: c.dir.Path(), Object: next.Name, Offset: 0, LSN: h.ID.First, Reason: fmt.Sprintf(
		"segment begins at LSN %d behind checksum %08x, but the one before (%s) ends at %d with %08x, sealed: %v", h.ID.First, h.Prev, c.Live[i].Name, r.Last, r.Sum, r.Sealed)}
}

// Lock takes the directory, for as long as it is in use.
func Lock(path string, create bool) (*durable.DirLock, error) {
	if create {
		if err := durable.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("hotlog: %w", err)
		}
	}
	lock, err := durable.Lock(path)
	if err != nil {
		return nil, fmt.Errorf("hotlog: %w", err)
	}
	return lock, nil
}

// Offline takes the directory and opens the medium that works everywhere and leaves
// nothing behind when it is only read. The caller calls release at last.
func Offline(path string, create bool) (dir *Files, release func() error, err error) {
	lock, err := Lock(path, create)
	if err != nil {
		return nil, nil, err
	}
	under, err := media.OpenFile(path)
	if err != nil {
		lock.Unlock()
		return nil, nil, fmt.Errorf("hotlog: %w", err)
	}
	dir = NewFiles(under, OpenFilesMax)
	return dir, func() error { return errors.Join(dir.Close(), lock.Unlock()) }, nil
}

// InFile names the file in an error of package segment.
func InFile(dir media.Dir, name string, err error) error {
	var c *logcore.CorruptionError
	var d *segment.DamageError
	switch {
	case errors.As(err, &c):
		c.Place, c.Object = dir.Path(), name
		return err
	case errors.As(err, &d):
		return &logcore.CorruptionError{Place: dir.Path(), Object: name, Offset: -1, Reason: d.Reason}
	}
	return fmt.Errorf("hotlog: %s/%s: %w", dir.Path(), name, err)
}
