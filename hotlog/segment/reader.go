package segment

import (
	"fmt"
	"io"

	"github.com/logcore/logcore"
)

// windowBytes is how much of the file a Reader asks for at once: what was copied is still
// in the processor's second cache when it is checked.
const windowBytes = 128 << 10

// Reader reads the frames of a segment in order and checks each. It is used by one
// goroutine.
type Reader struct {
	src    io.ReaderAt
	salt   uint32
	end    int64 // no frame may reach behind it
	off    int64 // of the next frame
	next   logcore.LSN
	prev   uint32
	keep   bool   // windows are handed out and never reused
	window []byte // file bytes [winOff, winOff+len(window))
	winOff int64
	raw    []byte // the last frame
}

// NewReader returns a reader that begins with the frame at p (an index point, or
// the beginning of the frames) and stops at the file offset end.
func NewReader(src io.ReaderAt, id ID, p Point, end int64) *Reader {
	return &Reader{src: src, salt: id.salt(), end: end, off: p.Offset, winOff: p.Offset, next: p.LSN, prev: p.Prev}
}

// Keep makes every payload stay valid for ever; otherwise it is valid until the
// next call of Next.
func (r *Reader) Keep() *Reader { r.keep = true; return r }

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
	if r.off >= r.end {
		return logcore.Entry{}, 0, io.EOF
	}
	at := r.window[r.off-r.winOff:]
	sum, n, err := decodeFrame(&e, at, r.salt, r.prev)
	for err == ErrShort {
		if ferr := r.fill(n); ferr != nil {
			return logcore.Entry{}, 0, ferr
		}
		at = r.window
		sum, n, err = decodeFrame(&e, at, r.salt, r.prev)
	}
	if err != nil {
		return logcore.Entry{}, 0, err
	}
	if e.LSN != r.next {
		return logcore.Entry{}, 0, damage("frame has LSN %d, want %d", e.LSN, r.next)
	}
	r.raw = at[:n]
	r.off += int64(n)
	r.next++
	r.prev = sum
	return e, sum, nil
}

// fill reads a window of at least need bytes at the current offset.
func (r *Reader) fill(need int) error {
	rest := r.end - r.off
	if int64(need) > rest {
		return damage("frame of LSN %d needs %d bytes, %d are left", r.next, need, rest)
	}
	size := int(min(max(windowBytes, int64(need)), rest))
	if r.keep || cap(r.window) < size {
		r.window = make([]byte, size)
	}
	r.window, r.winOff = r.window[:size], r.off
	if n, err := r.src.ReadAt(r.window, r.off); n < size {
		r.window = r.window[:0]
		return fmt.Errorf("segment: read %d bytes at offset %d: %w", size, r.off, err)
	}
	return nil
}
