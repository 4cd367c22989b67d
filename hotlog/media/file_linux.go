package media

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
)

// zeroChunkBytes is written at once when a file is zeroed, and syncChunkBytes synced
// at once, so that preparing a file in the background does not hold up commits.
const (
	zeroChunkBytes = 1 << 20
	syncChunkBytes = 8 << 20
)

// fileDir is a directory on any file system: fallocate, pwrite, fdatasync.
type fileDir struct {
	path string
	// dir is what SyncDir syncs. It is open until Close, so that a process that has run out
	// of descriptors can still make durable what it did.
	dir *os.File
}

// OpenFile returns the "file" medium over an existing directory.
func OpenFile(path string) (Dir, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	st, err := dir.Stat()
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%w: %s is not a directory", logcore.ErrInvalid, path)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("media: %w", err)
	}
	return &fileDir{path: path, dir: dir}, nil
}

// Close lets go of the directory; its files are closed before.
func (d *fileDir) Close() error { return d.dir.Close() }

func (d *fileDir) Path() string   { return d.path }
func (d *fileDir) Medium() string { return "file" }
func (d *fileDir) Align() int     { return 8 } // any would do; frames begin at multiples of 8

func (d *fileDir) Create(name string, size int64) (File, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, wrap(err)
	}
	out := &file{f: f}
	if err := out.Grow(size); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return out, nil
}

func (d *fileDir) Open(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDWR, 0)
	if err != nil {
		return nil, wrap(err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, wrap(err)
	}
	out := &file{f: f}
	out.size.Store(st.Size())
	return out, nil
}

func (d *fileDir) Rename(from, to string) error {
	return wrap(os.Rename(filepath.Join(d.path, from), filepath.Join(d.path, to)))
}

// Link gives a file a second name.
func (d *fileDir) Link(from, to string) error {
	return wrap(os.Link(filepath.Join(d.path, from), filepath.Join(d.path, to)))
}

func (d *fileDir) Remove(name string) error { return wrap(os.Remove(filepath.Join(d.path, name))) }

func (d *fileDir) SyncDir() error { return wrap(d.dir.Sync()) }

func (d *fileDir) List() ([]string, error) {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return nil, wrap(err)
	}
	var names []string
	for _, e := range list {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *fileDir) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return 0, fmt.Errorf("media: statfs %s: %w", d.path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// file is one file of a fileDir.
type file struct {
	f    *os.File
	size atomic.Int64
}

func (f *file) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, wrap(err)
}

// WriteSync is as many writes, and one fdatasync for all of them.
func (f *file) WriteSync(writes []Write) error {
	for _, w := range writes {
		if _, err := f.WriteAt(w.P, w.Off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Sync is fdatasync: size and extents do not change after Grow.
func (f *file) Sync() error {
	for {
		err := unix.Fdatasync(int(f.f.Fd()))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return wrap(&os.PathError{Op: "fdatasync", Path: f.f.Name(), Err: err})
		}
		return nil
	}
}

func (f *file) Size() int64  { return f.size.Load() }
func (f *file) Close() error { return f.f.Close() }

// Grow allocates [Size, size), writes zeros to it and syncs data and metadata.
// Allocation alone is not enough: the first write into an unwritten extent costs a
// journal transaction, which is what preallocation is meant to save.
func (f *file) Grow(size int64) error {
	from := f.size.Load()
	if size <= from {
		return nil
	}
	err := unix.Fallocate(int(f.f.Fd()), 0, from, size-from)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return wrap(&os.PathError{Op: "fallocate", Path: f.f.Name(), Err: err})
	}
	zeros := make([]byte, min(zeroChunkBytes, size-from))
	for off := from; off < size; {
		n := min(int64(len(zeros)), size-off)
		if _, err := f.f.WriteAt(zeros[:n], off); err != nil {
			return wrap(err)
		}
		if off += n; (off-from)%syncChunkBytes == 0 {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	if err := f.f.Sync(); err != nil {
		return wrap(err)
	}
	f.size.Store(size)
	return nil
}

// wrap names the package and maps "no room" to logcore.ErrDiskFull.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", logcore.ErrDiskFull, err)
	}
	return fmt.Errorf("media: %w", err)
}
