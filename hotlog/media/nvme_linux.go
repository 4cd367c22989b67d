package media

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// nvmeAlign is the block that direct writes are made of. A smaller one, where the
// device allows it, saves nothing: its medium and the file system above it write 4 KiB.
const nvmeAlign = AlignMax

// nvmeLanesMax bounds the writes of one WriteSync that are under way at once.
const nvmeLanesMax = 8

// nvmeDir is a directory on a block device whose file system offers direct writes:
// WriteSync goes past the page cache (O_DIRECT) and is durable when the one system
// call returns (O_DSYNC), which a device with a write cache gets by FUA or a flush.
// Everything else is as in fileDir; the kernel keeps the page cache, which reads go
// through, and direct writes coherent.
type nvmeDir struct{ fileDir }

// OpenNVMe returns the "nvme" medium over an existing directory. When its file system
// or its device does not offer direct writes in blocks of at most AlignMax, or the disk
// is too full to try, the error wraps errors.ErrUnsupported; OpenFile works there.
func OpenNVMe(path string) (Dir, error) {
	under, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	d := &nvmeDir{*under.(*fileDir)}
	if err := d.probe(); err != nil {
		return nil, errors.Join(fmt.Errorf("media: direct writes in %s: %w", path, err), d.Close())
	}
	return d, nil
}

// probe asks for the alignment, then tries a write: file systems exist that take
// the flag and refuse the write.
func (d *nvmeDir) probe() error {
	f, err := os.CreateTemp(d.path, "probe*.tmp")
	if err != nil {
		return unsupported(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	align, err := directAlign(f)
	if err != nil {
		return err
	}
	if align > nvmeAlign {
		return fmt.Errorf("%w: the device wants writes aligned to %d bytes, %d at most are supported", errors.ErrUnsupported, align, nvmeAlign)
	}
	direct, err := openDirect(f.Name())
	if err != nil {
		return unsupported(err)
	}
	defer direct.Close()
	return unsupported(writeAll(int(direct.Fd()), Write{P: Buffer(nvmeAlign)}))
}

// directAlign returns the alignment that direct writes to f need: what statx says, or, from
// a kernel before 6.1 that does not say, nvmeAlign, for the write to show.
func directAlign(f *os.File) (int, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN|unix.STATX_TYPE, &st)
	if err == nil && st.Mask&unix.STATX_DIOALIGN != 0 {
		if st.Dio_offset_align == 0 || st.Dio_mem_align == 0 {
			return 0, fmt.Errorf("%w: not for files of this file system", errors.ErrUnsupported)
		}
		return int(max(st.Dio_offset_align, st.Dio_mem_align)), nil
	}
	return nvmeAlign, nil
}

func openDirect(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
}

// unsupported tells "this file system does not do that" from other errors. Without room
// there is no telling; a full disk must not keep a log from opening.
func unsupported(err error) error {
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

func (d *nvmeDir) Medium() string { return "nvme" }
func (d *nvmeDir) Align() int     { return nvmeAlign }

func (d *nvmeDir) Create(name string, size int64) (File, error) {
	f, err := d.fileDir.Create(name, size)
	if err != nil {
		return nil, err
	}
	if f, err = d.direct(name)(f, nil); err != nil {
		err = errors.Join(err, d.fileDir.Remove(name))
	}
	return f, err
}

func (d *nvmeDir) Open(name string) (File, error) { return d.direct(name)(d.fileDir.Open(name)) }

// OpenRead does without the second descriptor.
func (d *nvmeDir) OpenRead(name string) (File, error) { return d.fileDir.Open(name) }

// OpenDirect implements DirectOpener.
func (d *nvmeDir) OpenDirect(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|unix.O_DIRECT, 0)
	return &file{f: f}, wrap(err)
}

// direct opens the second descriptor of a file.
func (d *nvmeDir) direct(name string) func(File, error) (File, error) {
	return func(under File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		f := &nvmeFile{file: under.(*file)}
		if f.direct, err = openDirect(filepath.Join(d.path, name)); err != nil {
			return nil, errors.Join(wrap(err), under.Close())
		}
		f.fd = int(f.direct.Fd())
		f.dropCache()
		return f, nil
	}
}

// nvmeFile is one file of an nvmeDir.
type nvmeFile struct {
	*file
	direct *os.File
	fd     int // of direct

	// Lanes write beside the caller of WriteSync. They begin with the first call that
	// needs them and end with Close. Touched by the one writer only.
	lanes   int
	work    chan Write
	results chan error
	running sync.WaitGroup
}

// WriteSync writes the last range itself and hands the others to lanes.
func (f *nvmeFile) WriteSync(writes []Write) error {
	if len(writes) == 0 {
		return nil
	}
	if len(writes) > nvmeLanesMax {
		return fmt.Errorf("media: %d writes at once, at most %d", len(writes), nvmeLanesMax)
	}
	for _, w := range writes {
		if w.Off < 0 || w.Off+int64(len(w.P)) > f.Size() || !w.aligned(nvmeAlign) {
			return fmt.Errorf("media: %s: write of %d bytes at %d in a file of %d, aligned: %v", f.f.Name(), len(w.P), w.Off, f.Size(), w.aligned(nvmeAlign))
		}
	}
	mine, others := writes[len(writes)-1], writes[:len(writes)-1]
	for f.lanes < len(others) {
		f.startLane()
	}
	for _, w := range others {
		f.work <- w
	}
	err := writeAll(f.fd, mine)
	for range others {
		if lane := <-f.results; err == nil {
			err = lane
		}
	}
	if err != nil {
		return wrap(&os.PathError{Op: "direct write", Path: f.f.Name(), Err: err})
	}
	return nil
}

func (f *nvmeFile) startLane() {
	if f.work == nil {
		f.work, f.results = make(chan Write, nvmeLanesMax), make(chan error, nvmeLanesMax)
	}
	f.lanes++
	f.running.Go(func() {
		for w := range f.work {
			f.results <- writeAll(f.fd, w)
		}
	})
}

// writeAll writes all of w; a direct write may be cut short, at a block.
func writeAll(fd int, w Write) error {
	for len(w.P) > 0 {
		n, err := unix.Pwrite(fd, w.P, w.Off)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		case n == 0 || n%nvmeAlign != 0 && n < len(w.P):
			return fmt.Errorf("wrote %d of %d bytes", n, len(w.P))
		}
		w.P, w.Off = w.P[n:], w.Off+int64(n)
	}
	return nil
}

// Grow is that of a file in the page cache.
func (f *nvmeFile) Grow(size int64) error {
	if err := f.file.Grow(size); err != nil {
		return err
	}
	f.dropCache()
	return nil
}

// dropCache drops from the page cache what zeroing put there, which direct writes would
// have to do later. It is advice: an error costs a little time, and nothing else.
func (f *nvmeFile) dropCache() { _ = unix.Fadvise(int(f.f.Fd()), 0, 0, unix.FADV_DONTNEED) }

func (f *nvmeFile) Close() error {
	if f.work != nil {
		close(f.work)
		f.running.Wait()
		f.work, f.lanes = nil, 0
	}
	return errors.Join(wrap(f.direct.Close()), f.file.Close())
}
