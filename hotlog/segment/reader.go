package segment

import (
	"fmt"
	"io"

	"github.com/logcore/logcore"
)

// What a Reader asks for at once doubles from windowBytesMin on: one that begins only to
// look something up reads little. One that goes on is fastest with a MiB at a time, measured
// from the page cache; one whose windows are kept stays smaller, not to keep much for little.
const (
	windowBytesMin  = 64 << 10
	windowBytesKept = 128 << 10
	windowBytesMax  = 1 << 20
)

// Reader reads the frames of a segment in order and checks each. It is used by one
// goroutine.
type Reader struct {
	src    io.ReaderAt
	salt   uint32
	prev   uint32
	next   logcore.LSN
	end    int64  // no frame may reach behind it
	off    int64  // of the next frame
	rest   []byte // file bytes from off on, as far as they are read
	raw    []byte // the last frame
	window []byte // rest is its end
	ask    int    // bytes of the next window
	askMax int
	keep   bool // windows are handed out and never reused
}

// NewReader returns a reader that begins with the frame at p (an index point, or
// the beginning of the frames) and stops at the file offset end.
func NewReader(src io.ReaderAt, id ID, p Point, end int64) *Reader {
	return &Reader{src: src, salt: id.salt(), end: end, off: p.Offset, next: p.LSN, prev: p.Prev, ask: windowBytesMin, askMax: windowBytesMax}
}

// Keep makes every payload stay valid for ever; otherwise it is valid until the
// next call of Next.
func (r *Reader) Keep() *Reader {
	r.keep, r.askMax = true, windowBytesKept
	return r
}

// Offset is the file offset of the next frame, NextLSN its LSN, and Prev the
// checksum of the entry before it.
func (r *Reader) Offset() int64        { return r.off }
func (r *Reader) NextLSN() logcore.LSN { return r.next }
func (r *Reader) Prev() uint32         { return r.prev }

// Raw returns the bytes of the frame that Next returned last, padding included. They
// are valid as long as its payload.
func (r *Reader) Raw() []byte { return r.raw }

// Next returns the next entry and its checksum. At the end offset the error is
// io.EOF. A frame that fails its check is an error that wraps logcore.ErrCorrupt
// (a *DamageError); Offset then still points at it.
func (r *Reader) Next() (e logcore.Entry, sum uint32, err error) {
	sum, err = r.NextInto(&e)
	return e, sum, err
}

// NextInto is Next into an entry of the caller's, which saves copies. After an error e
// means nothing.
func (r *Reader) NextInto(e *logcore.Entry) (sum uint32, err error) {
	if !r.fast(e) {
		err = r.slow(e)
	}
	return r.prev, err
}

// fast decodes the next frame when all of it is in the window and nothing is wrong with
// it. It is what reading a log costs beside the checksum: see decodeFrame for what it checks.
func (r *Reader) fast(e *logcore.Entry) bool {
	b := r.rest
	if len(b) < FrameHeaderBytes {
		return false
	}
	length := le.Uint32(b[frmLength:])
	n := (uint64(length) + FrameHeaderBytes + FrameAlign - 1) &^ (FrameAlign - 1)
	if n > uint64(len(b)) || length > PayloadBytesMax {
		return false
	}
	b = b[:n:n]
	sum := le.Uint32(b[frmCRC:])
	rest := le.Uint64(b[frmKind:]) // kind 1, version 1, flags 2, previous checksum 4
	padding := le.Uint64(b[n-FrameAlign:]) >> (8 * (FrameAlign - (n - FrameHeaderBytes - uint64(length))))
	if le.Uint32(b) != frameMagic || saltedSum(r.salt, b) != sum || rest>>8 != FormatVersion|uint64(r.prev)<<24 ||
		le.Uint64(b[frmLSN:]) != uint64(r.next) || padding != 0 || !logcore.Kind(rest).Valid() {
		return false
	}
	parse(e, b)
	r.advance(int(n), sum)
	return true
}

// slow decodes the next frame behind a new window when it has to, and says what is wrong.
func (r *Reader) slow(e *logcore.Entry) error {
	if r.off >= r.end {
		return io.EOF
	}
	sum, n, err := decodeFrame(e, r.rest, r.salt, r.prev)
	for err == ErrShort {
		if err := r.fill(n); err != nil {
			return err
		}
		sum, n, err = decodeFrame(e, r.rest, r.salt, r.prev)
	}
	if err != nil {
		return err
	}
	if e.LSN != r.next {
		return damage("frame has LSN %d, want %d", e.LSN, r.next)
	}
	r.advance(n, sum)
	return nil
}

// advance goes on behind the frame of n bytes in front.
func (r *Reader) advance(n int, sum uint32) {
	r.raw, r.rest = r.rest[:n], r.rest[n:]
	r.off += int64(n)
	r.next++
	r.prev = sum
}

// fill reads a window of at least need bytes at the current offset.
func (r *Reader) fill(need int) error {
	left := r.end - r.off
	if int64(need) > left {
		return damage("frame of LSN %d needs %d bytes, %d are left", r.next, need, left)
	}
	size := int(min(max(int64(r.ask), int64(need)), left))
	if r.keep || cap(r.window) < size {
		r.window = make([]byte, size)
	}
	r.window, r.rest = r.window[:size], nil
	if n, err := r.src.ReadAt(r.window, r.off); n < size {
		return fmt.Errorf("segment: read %d bytes at offset %d: %w", size, r.off, err)
	}
	r.rest, r.ask = r.window, min(2*r.ask, r.askMax)
	return nil
}
