package wal

import "encoding/binary"

// Fields reads the little-endian fields of a record in order. Past the end it gives zeros and Short is set.
type Fields struct {
	B     []byte // what is left
	Short bool
}

// zeros is what fields past the end read; nobody writes to it.
var zeros [128]byte

// Take returns the next n bytes, which are the record's own. Past the end it returns zeros, at least eight and at most 128 of them.
func (f *Fields) Take(n int) []byte {
	if uint(n) > uint(len(f.B)) {
		f.B, f.Short = nil, true
		n = min(max(n, 8), len(zeros))
		return zeros[:n:n]
	}
	out := f.B[:n:n]
	f.B = f.B[n:]
	return out
}

// U8 reads one byte.
func (f *Fields) U8() uint8 { return f.Take(1)[0] }

// U16 reads two bytes.
func (f *Fields) U16() uint16 { return binary.LittleEndian.Uint16(f.Take(2)) }

// U32 reads four bytes.
func (f *Fields) U32() uint32 { return binary.LittleEndian.Uint32(f.Take(4)) }

// U64 reads eight bytes.
func (f *Fields) U64() uint64 { return binary.LittleEndian.Uint64(f.Take(8)) }

// Relation reads what names a relation's files.
func (f *Fields) Relation() Relation { return Relation{f.U32(), f.U32(), f.U32()} }

// Rest returns all that is left.
func (f *Fields) Rest() []byte { return f.Take(len(f.B)) }

// list takes a list with its count before it.
func (f *Fields) list(size int) List { return f.items(int(int32(f.U32())), size) }

// items takes a list of n items.
func (f *Fields) items(n, size int) List {
	if n < 0 || n > len(f.B)/size {
		f.B, f.Short = nil, true
		return List{}
	}
	return List{n, f.Take(n * size)}
}
