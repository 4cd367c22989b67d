package segdir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
)

// OpenFilesMax is how many files are open for readers only and not in use, so that a log
// with thousands of segments takes a few file descriptors.
const OpenFilesMax = 32

// Files is a directory whose files are opened when they are used. Who writes a file
// keeps it: it stays open, because an error of the kernel's write-back is told to those
// only who had the file open then. A file that is not kept is closed when openMax
// others were used since.
type Files struct {
	media.Dir
	openMax int

	mu    sync.Mutex
	files map[string]*file
	idle  []*file // open for readers and not in use; used last is last
}

// NewFiles returns dir with at most openMax files open that no one uses; dir itself when
// it is a Files already.
func NewFiles(dir media.Dir, openMax int) *Files {
	if s, ok := dir.(*Files); ok {
		return s
	}
	return &Files{Dir: dir, openMax: openMax, files: map[string]*file{}}
}

// file is a media.File of a Files.
type file struct {
	set  *Files
	size atomic.Int64

	kept media.File // of the one writer alone, nil when it does not keep the file

	// Guarded by set.mu.
	name   string     // empty: another file was given its name, or it was closed
	reads  media.File // what readers use; nil while it is not open
	users  int        // reads under way
	closed bool       // the last reader closes what is open
}

// Create makes a file that is kept.
func (s *Files) Create(name string, size int64) (media.File, error) {
	f, err := s.Dir.Create(name, size)
	if outOfFiles(err) && s.CloseIdle() {
		f, err = s.Dir.Create(name, size)
	}
	if outOfFiles(err) {
		return nil, fmt.Errorf("%w: no file descriptor for another segment, raise the limit (ulimit -n): %w", logcore.ErrDiskFull, err)
	}
	if err != nil {
		return nil, err
	}
	x := &file{set: s, name: name, kept: f}
	x.size.Store(size)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = x
	return x, nil
}

// Open opens a file for reading; it is kept from the first write on.
func (s *Files) Open(name string) (media.File, error) {
	x := &file{set: s, name: name}
	f, err := x.acquire()
	if err != nil {
		return nil, err
	}
	defer x.release()
	x.size.Store(f.Size())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = x
	return x, nil
}

// Rename gives a file another name. The file that had it can't be opened again.
func (s *Files) Rename(from, to string) error {
	if err := s.Dir.Rename(from, to); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if replaced := s.files[to]; replaced != nil {
		replaced.name = ""
	}
	if moved := s.files[from]; moved != nil {
		moved.name = to
		s.files[to] = moved
	}
	delete(s.files, from)
	return nil
}

// Link gives a file a second name where the medium can.
func (s *Files) Link(from, to string) error {
	if d, ok := s.Dir.(interface{ Link(from, to string) error }); ok {
		return d.Link(from, to)
	}
	return errors.ErrUnsupported
}

// Close lets go of the directory when its files are closed.
func (s *Files) Close() error {
	if d, ok := s.Dir.(io.Closer); ok {
		return d.Close()
	}
	return nil
}

// CloseIdle closes what is open and not in use, and reports whether that was any.
func (s *Files) CloseIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shrink(0)
}

// shrink closes idle files until max are left; mu is held.
func (s *Files) shrink(max int) (closed bool) {
	for ; len(s.idle) > max; closed = true {
		x := s.idle[0]
		s.idle = slices.Delete(s.idle, 0, 1)
		x.reads.Close()
		x.reads = nil
	}
	return closed
}

func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Keep opens a file for writing and keeps it open, for its one writer. An error that
// wraps logcore.ErrOverloaded says that file descriptors have run out, and harms nothing.
func Keep(f media.File) (err error) {
	x, ok := f.(*file)
	if !ok || x.kept != nil {
		return nil
	}
	x.set.mu.Lock()
	defer x.set.mu.Unlock()
	x.kept, err = x.open(x.set.Dir.Open)
	return err
}

// Loosen takes back a Keep. What was written must have been synced.
func Loosen(f media.File) {
	if x, ok := f.(*file); ok && x.kept != nil {
		x.kept.Close()
		x.kept = nil
	}
}

// open opens the file in one way or the other; set.mu is held.
func (x *file) open(how func(name string) (media.File, error)) (media.File, error) {
	if x.name == "" {
		return nil, fmt.Errorf("hotlog: %s: a segment file that was replaced: %w", x.set.Path(), os.ErrClosed)
	}
	f, err := how(x.name)
	if outOfFiles(err) && x.set.shrink(0) {
		f, err = how(x.name)
	}
	if outOfFiles(err) {
		return nil, fmt.Errorf("%w: hotlog: %s/%s: no file descriptor, raise the limit (ulimit -n): %w", logcore.ErrOverloaded, x.set.Path(), x.name, err)
	}
	return f, err
}

// acquire opens the file for a reader if need be, and counts the reader in.
func (x *file) acquire() (f media.File, err error) {
	s := x.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.reads == nil {
		how := s.Dir.Open
		if d, ok := s.Dir.(media.ReadOpener); ok {
			how = d.OpenRead
		}
		if x.reads, err = x.open(how); err != nil {
			return nil, err
		}
	}
	s.inUse(x)
	x.users++
	return x.reads, nil
}

// release counts a reader out; the last one leaves the file to be closed some time.
func (x *file) release() {
	s := x.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.users--; x.users > 0 {
		return
	}
	if x.closed {
		x.reads.Close()
		x.reads = nil
		return
	}
	s.idle = append(s.idle, x)
	s.shrink(s.openMax)
}

// inUse takes a file out of those that may be closed; mu is held.
func (s *Files) inUse(x *file) {
	if i := slices.Index(s.idle, x); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
	}
}

// Close ends reads that begin later. There is no writer any more.
func (x *file) Close() (err error) {
	Loosen(x)
	s := x.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[x.name] == x {
		delete(s.files, x.name)
	}
	x.name, x.closed = "", true
	if x.reads != nil && x.users == 0 {
		s.inUse(x)
		err = x.reads.Close()
		x.reads = nil
	}
	return err
}

func (x *file) Size() int64 { return x.size.Load() }

func (x *file) ReadAt(p []byte, off int64) (int, error) {
	f, err := x.acquire()
	if err != nil {
		return 0, err
	}
	defer x.release()
	return f.ReadAt(p, off)
}

func (x *file) WriteAt(p []byte, off int64) (int, error) {
	if err := Keep(x); err != nil {
		return 0, err
	}
	return x.kept.WriteAt(p, off)
}

func (x *file) WriteSync(writes []media.Write) error {
	if err := Keep(x); err != nil {
		return err
	}
	return x.kept.WriteSync(writes)
}

func (x *file) Sync() error {
	if err := Keep(x); err != nil {
		return err
	}
	return x.kept.Sync()
}

func (x *file) Grow(size int64) error {
	if err := Keep(x); err != nil {
		return err
	}
	err := x.kept.Grow(size)
	x.size.Store(x.kept.Size())
	return err
}
