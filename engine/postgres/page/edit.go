package page

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
)

// Edit is a change of a page that is no record's block: of bits in a visibility map, of entries in the logs of
// transactions. It is a list of steps, each over bytes of the page, so one edit behind another is an edit too. It moves no LSN. The
// zero value changes nothing.
//
// A step is its kind and two-byte numbers, little-endian: editClear from to; editBits at, then a byte of what is kept and one of what
// is set; editWrite at n, then n bytes.
type Edit []byte

const (
	editClear = 1
	editBits  = 2
	editWrite = 3
)

// Clear appends a step that makes the bytes [from, to) zero.
func (e Edit) Clear(from, to int) Edit {
	return append(e, editClear, byte(from), byte(from>>8), byte(to), byte(to>>8))
}

// Bits appends a step that leaves of a byte the bits keep and sets the bits set.
func (e Edit) Bits(at int, keep, set byte) Edit {
	return append(e, editBits, byte(at), byte(at>>8), keep, set)
}

// Write appends a step that overwrites the bytes from at on.
func (e Edit) Write(at int, b []byte) Edit {
	return append(append(e, editWrite, byte(at), byte(at>>8), byte(len(b)), byte(len(b)>>8)), b...)
}

// WriteU32 appends a step that overwrites a four-byte number.
func (e Edit) WriteU32(at int, v uint32) Edit {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	return e.Write(at, b[:])
}

// Apply makes the change. An edit that is none, or that leaves the page, is logcore.ErrCorrupt, with the page undefined.
func (e Edit) Apply(p []byte) error {
	for b := []byte(e); len(b) > 0; {
		if len(b) < 5 {
			return fmt.Errorf("%w: page edit: %d bytes for a step", logcore.ErrCorrupt, len(b))
		}
		kind, x, y := b[0], int(binary.LittleEndian.Uint16(b[1:])), int(binary.LittleEndian.Uint16(b[3:]))
		keep, set := b[3], b[4]
		b = b[5:]
		switch {
		case kind == editClear && x <= y && y <= len(p):
			clear(p[x:y])
		case kind == editBits && x < len(p):
			p[x] = p[x]&keep | set
		case kind == editWrite && y <= len(b) && x+y <= len(p):
			copy(p[x:], b[:y])
			b = b[y:]
		default:
			return fmt.Errorf("%w: page edit: step %d, %d, %d of a page of %d bytes", logcore.ErrCorrupt, kind, x, y, len(p))
		}
	}
	return nil
}
