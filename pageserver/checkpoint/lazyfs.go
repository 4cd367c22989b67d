package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lazyFS is a file system in which lazy tables appear beside the files that are there.
type lazyFS struct {
	vfs.FS

	mu sync.Mutex
	// files are the lazy tables by path; guarded by mu. A table that becomes whole leaves
	// the store's directory here and stays under the paths it was linked to.
	files map[string]*lazyFile
}

func (f *lazyFS) add(file *lazyFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := file.path()
	if old := f.files[path]; old != nil {
		old.unlink()
	}
	f.files[path] = file
	file.links++
}

func (f *lazyFS) find(name string) *lazyFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[filepath.Clean(name)]
}

// remove takes a path out; it reports whether there was one.
func (f *lazyFS) remove(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.files[filepath.Clean(name)]
	if file == nil {
		return false
	}
	delete(f.files, filepath.Clean(name))
	file.unlink()
	return true
}

func (f *lazyFS) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, file := range f.files {
		delete(f.files, path)
		file.unlink()
	}
}

// lazyTables returns the tables that are not whole yet, by name.
func (f *lazyFS) lazyTables() []*lazyFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*lazyFile
	for path, file := range f.files {
		if path == file.path() {
			out = append(out, file)
		}
	}
	slices.SortFunc(out, func(a, b *lazyFile) int { return strings.Compare(a.t.Name, b.t.Name) })
	return out
}

func (f *lazyFS) count() int { return len(f.lazyTables()) }

func (f *lazyFS) missing() int64 {
	n := int64(0)
	for _, file := range f.lazyTables() {
		n += file.missingBytes()
	}
	return n
}

// Open implements vfs.FS.
func (f *lazyFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f.mu.Lock()
	file := f.files[filepath.Clean(name)]
	if file != nil {
		file.handles++
	}
	f.mu.Unlock()
	if file == nil {
		return f.FS.Open(name, opts...)
	}
	if err := file.ready(); err != nil {
		f.closed(file)
		return nil, err
	}
	return &handle{fs: f, file: file}, nil
}

// closed counts a handle that was closed.
func (f *lazyFS) closed(file *lazyFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file.handles--
	file.release()
}

// Create implements vfs.FS.
func (f *lazyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f.remove(name)
	return f.FS.Create(name, category)
}

// Link implements vfs.FS. The link to a lazy table is lazy too; an empty file stands for
// it in its directory.
func (f *lazyFS) Link(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.files[filepath.Clean(oldname)]
	if file == nil {
		return f.FS.Link(oldname, newname)
	}
	empty, err := os.OpenFile(newname, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := empty.Close(); err != nil {
		return err
	}
	f.files[filepath.Clean(newname)] = file
	file.links++
	return nil
}

// Remove implements vfs.FS.
func (f *lazyFS) Remove(name string) error {
	lazy := f.remove(name)
	err := f.FS.Remove(name)
	if lazy && os.IsNotExist(err) {
		return nil
	}
	return err
}

// RemoveAll implements vfs.FS.
func (f *lazyFS) RemoveAll(name string) error {
	dir := filepath.Clean(name) + string(filepath.Separator)
	f.mu.Lock()
	for path, file := range f.files {
		if strings.HasPrefix(path, dir) {
			delete(f.files, path)
			file.unlink()
		}
	}
	f.mu.Unlock()
	return f.FS.RemoveAll(name)
}

// Rename implements vfs.FS. Pebble renames no tables.
func (f *lazyFS) Rename(oldname, newname string) error {
	if f.find(oldname) != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: os.ErrInvalid}
	}
	f.remove(newname)
	return f.FS.Rename(oldname, newname)
}

// List implements vfs.FS.
func (f *lazyFS) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for path := range f.files {
		if filepath.Dir(path) == filepath.Clean(dir) && !slices.Contains(names, filepath.Base(path)) {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Stat implements vfs.FS.
func (f *lazyFS) Stat(name string) (vfs.FileInfo, error) {
	if file := f.find(name); file != nil {
		return file.info(), nil
	}
	return f.FS.Stat(name)
}

// Unwrap implements vfs.FS.
func (f *lazyFS) Unwrap() vfs.FS { return f.FS }

func (f *lazyFS) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for path, file := range f.files {
		delete(f.files, path)
		file.mu.Lock()
		if file.part != nil {
			errs = append(errs, file.part.Close(), file.sums.Close())
			file.part, file.sums = nil, nil
		}
		file.mu.Unlock()
	}
	return errors.Join(errs...)
}
