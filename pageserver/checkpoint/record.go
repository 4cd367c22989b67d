package checkpoint

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Recorder is a file system that notes which blocks of tables are read, in order. A store
// that is opened with it, and read as a new page server reads it first, says what should
// be fetched first.
type Recorder struct {
	vfs.FS

	mu    sync.Mutex
	seen  map[Read]bool // guarded by mu
	reads []Read        // guarded by mu; warmMax at most
}

// Record returns a recorder over a file system.
func Record(fs vfs.FS) *Recorder { return &Recorder{FS: fs, seen: map[Read]bool{}} }

// Reads returns the blocks in the order in which they were read first.
func (r *Recorder) Reads() []Read {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Read(nil), r.reads...)
}

func (r *Recorder) note(name string, off int64, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := off / BlockBytes; b*BlockBytes < off+int64(n) && len(r.reads) < warmMax; b++ {
		read := Read{name, int(b)}
		if !r.seen[read] {
			r.seen[read] = true
			r.reads = append(r.reads, read)
		}
	}
}

// Open implements vfs.FS.
func (r *Recorder) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.Open(name, opts...)
	if err != nil || !IsTable(name) {
		return f, err
	}
	return &recorded{File: f, r: r, name: r.PathBase(name)}, nil
}

// Unwrap implements vfs.FS.
func (r *Recorder) Unwrap() vfs.FS { return r.FS }

type recorded struct {
	vfs.File
	r    *Recorder
	name string
}

// ReadAt implements vfs.File.
func (f *recorded) ReadAt(p []byte, off int64) (int, error) {
	f.r.note(f.name, off, len(p))
	return f.File.ReadAt(p, off)
}

// Fd implements vfs.File: what is read must come by here.
func (f *recorded) Fd() uintptr { return vfs.InvalidFd }
