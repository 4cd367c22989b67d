// Package media is where bytes become durable: the few operations the hot log
// needs from a directory of preallocated files, cut so small that a device without
// a file system, a memory-mapped one or a simulated one can stand behind it. Every
// medium passes the suite in mediatest.
package media

import (
	"io"
	"unsafe"
)

// Dir is a directory of files on one medium. Its methods may be used by many
// goroutines; names are plain file names without separators.
type Dir interface {
	// Path names the directory in messages.
	Path() string
	// Medium names the kind of medium: "nvme", "pmem", "file".
	Medium() string
	// Align is what offset, length and memory of every Write must be a multiple of: a
	// power of two from 8 to AlignMax. A crash may tear a write at any byte, but never
	// changes bytes outside of the aligned block that is being written.
	Align() int
	// Create makes a new file of size zero bytes, really allocated and really
	// written, so that a later write inside it needs no metadata. When it returns,
	// content and size are durable; the name is only after SyncDir. It fails if the
	// name exists, with an error that wraps logcore.ErrDiskFull if there is no room,
	// and leaves no file behind when it fails.
	Create(name string, size int64) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Rename and Remove take effect at once and are durable after SyncDir.
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes earlier Create, Rename and Remove calls durable.
	SyncDir() error
	// List returns the names of all files, sorted.
	List() ([]string, error)
	// Free returns how many bytes can still be allocated.
	Free() (int64, error)
}

// ReadOpener is a Dir that opens a file for reading at less cost than Open: with one file
// descriptor, and without a change to what is cached.
type ReadOpener interface {
	// OpenRead opens an existing file. Only ReadAt, Size and Close of it are used.
	OpenRead(name string) (File, error)
}

// DirectOpener is a Dir that can read a file past the page cache.
type DirectOpener interface {
	// OpenDirect opens an existing file; only ReadAt and Close of it are used. Offset,
	// length and memory of a ReadAt are multiples of Align. What it returns comes from the
	// device, and nothing of it stays in the page cache.
	OpenDirect(name string) (File, error)
}

// AlignMax is the largest alignment that a medium may ask for.
const AlignMax = 4096

// Write is one range of a WriteSync: the bytes P at offset Off. Offset, length and
// the address of P are multiples of the directory's Align (see Buffer).
type Write struct {
	P   []byte
	Off int64
}

// aligned reports whether offset, length and memory are multiples of align.
func (w Write) aligned(align int64) bool {
	return w.Off%align == 0 && int64(len(w.P))%align == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(w.P)))%uintptr(align) == 0
}

// Buffer returns n zero bytes that begin at a multiple of AlignMax in memory.
func Buffer(n int) []byte {
	b := make([]byte, n+AlignMax)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (AlignMax - 1)
	return b[skip : skip+uintptr(n) : skip+uintptr(n)]
}

// File is one preallocated file. There is one writer at a time; ReadAt may run
// beside a write, also of the same range if the bytes read don't change by it.
type File interface {
	io.ReaderAt
	// WriteAt writes inside the file's size. The bytes are durable once a Sync that
	// began after WriteAt returned has returned nil. After a crash without it, any
	// subset of the sectors may have been written. An error wraps
	// logcore.ErrDiskFull when the medium has no room. After an error the range's
	// content is undefined.
	io.WriterAt
	// WriteSync makes writes inside the file's size durable: all of them when it returns
	// nil. It is the way of the commits, and the fastest that the medium has. The
	// writes, whose ranges must not share a block of Align, are under way at the same
	// time where the medium gains by it, so after a crash any of them, and any part of
	// each, may have happened. It says nothing about earlier WriteAt calls, nor
	// about later ones. Writes and their bytes are the caller's again on return. An
	// error is like one of WriteAt and of Sync.
	WriteSync(writes []Write) error
	// Sync makes earlier WriteAt calls durable. After an error, what they wrote is
	// undefined, and a later nil says nothing about them: the caller must not go on
	// with the file until it was read back, written again and synced.
	Sync() error
	// Grow extends the file to size with the guarantees of Create.
	Grow(size int64) error
	// Size returns the file's size in bytes.
	Size() int64
	// Close releases the file. It makes nothing durable.
	Close() error
}
