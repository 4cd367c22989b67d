package media

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
)

// persistence is how bytes stored into a mapping are made durable.
type persistence int

const (
	// writeBack: the mapping is the medium (DAX, MAP_SYNC), so its cache lines are
	// written back and a fence waits for them; no system call.
	writeBack persistence = iota
	// msync: the mapping is the page cache, or this build knows no cache-line
	// instruction for the processor.
	msync
)

// pmemDir is a directory on persistent memory: files are mapped into memory, and a
// store is durable once its cache lines are written back. Reads go through the file,
// which turns an uncorrectable memory error into an I/O error instead of a signal.
type pmemDir struct {
	fileDir
	mapFlags int
	how      persistence
}

// OpenPMEM returns the "pmem" medium over an existing directory. When its file system
// does not map files straight to persistent memory (DAX), or the disk is too full to
// try, the error wraps errors.ErrUnsupported.
func OpenPMEM(path string) (Dir, error) {
	how := writeBack
	if !canWriteBack() {
		how = msync
	}
	return openPMEM(path, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC, how)
}

func openPMEM(path string, mapFlags int, how persistence) (Dir, error) {
	under, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	d := &pmemDir{fileDir: *under.(*fileDir), mapFlags: mapFlags, how: how}
	if err := d.probe(); err != nil {
		return nil, errors.Join(fmt.Errorf("media: persistent memory in %s: %w", path, err), d.fileDir.Close())
	}
	return d, nil
}

// probe maps a file in the way that all will be.
func (d *pmemDir) probe() error {
	f, err := os.CreateTemp(d.path, "probe*.tmp")
	if err != nil {
		return unsupported(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(AlignMax); err != nil {
		return unsupported(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, AlignMax, unix.PROT_READ|unix.PROT_WRITE, d.mapFlags)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err) // a file system without mappings
	}
	if err != nil {
		return unsupported(err)
	}
	return unix.Munmap(mem)
}

func (d *pmemDir) Medium() string { return "pmem" }

func (d *pmemDir) Create(name string, size int64) (File, error) {
	return d.mapped(d.fileDir.Create(name, size))
}

func (d *pmemDir) Open(name string) (File, error) { return d.mapped(d.fileDir.Open(name)) }

func (d *pmemDir) mapped(under File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	f := &pmemFile{file: under.(*file), dir: d}
	if err := f.remap(); err != nil {
		return nil, errors.Join(err, under.Close())
	}
	return f, nil
}

// pmemFile is one file of a pmemDir. All but ReadAt and Size is the one writer's.
type pmemFile struct {
	*file
	dir *pmemDir
	mem []byte // the whole file; nil when it is empty
	// [dirtyFrom, dirtyTo) of mem was stored to and not synced yet; msync only.
	dirtyFrom, dirtyTo int64
}

// remap maps the file in its present size.
func (f *pmemFile) remap() error {
	err := f.unmap()
	if size := f.Size(); err == nil && size > 0 {
		f.mem, err = unix.Mmap(int(f.f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, f.dir.mapFlags)
	}
	if err != nil {
		return wrap(&os.PathError{Op: "mmap", Path: f.f.Name(), Err: err})
	}
	return nil
}

func (f *pmemFile) unmap() error {
	mem := f.mem
	f.mem = nil
	if mem == nil {
		return nil
	}
	return unix.Munmap(mem)
}

// WriteAt stores p and, on persistent memory, is durable when it returns: the stores
// and their write-back must come from one processor, which the caller could leave
// before it calls Sync.
func (f *pmemFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(f.mem)) {
		return 0, fmt.Errorf("media: %w: %s: write of %d bytes at %d, the file has %d", logcore.ErrInvalid, f.f.Name(), len(p), off, len(f.mem))
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := f.store(f.mem[off:off+int64(len(p))], p); err != nil {
		return 0, err
	}
	if f.dir.how == msync {
		if f.dirtyTo == 0 || off < f.dirtyFrom {
			f.dirtyFrom = off
		}
		f.dirtyTo = max(f.dirtyTo, off+int64(len(p)))
	}
	return len(p), nil
}

// store copies p into the mapping and writes it back. A page of the mapping that the
// kernel can't provide is an error, not the end of the process.
func (f *pmemFile) store(mem, p []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = wrap(&os.PathError{Op: "store", Path: f.f.Name(), Err: fmt.Errorf("%w: %v", unix.EIO, r)})
		}
	}()
	copy(mem, p)
	if f.dir.how == writeBack {
		writeBackLines(mem)
	}
	return nil
}

// WriteSync is as many stores and write-backs, each fenced.
func (f *pmemFile) WriteSync(writes []Write) error {
	for _, w := range writes {
		if _, err := f.WriteAt(w.P, w.Off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Sync has nothing left to do on persistent memory.
func (f *pmemFile) Sync() error {
	if f.dir.how != msync || f.dirtyTo == 0 {
		return nil
	}
	from := f.dirtyFrom &^ int64(os.Getpagesize()-1)
	if err := unix.Msync(f.mem[from:f.dirtyTo], unix.MS_SYNC); err != nil {
		return wrap(&os.PathError{Op: "msync", Path: f.f.Name(), Err: err})
	}
	f.dirtyFrom, f.dirtyTo = 0, 0
	return nil
}

// Grow zeroes through the file system, which makes the new blocks durable.
func (f *pmemFile) Grow(size int64) error {
	if size <= f.Size() {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.file.Grow(size); err != nil {
		return err
	}
	return f.remap()
}

func (f *pmemFile) Close() error { return errors.Join(wrap(f.unmap()), f.file.Close()) }
