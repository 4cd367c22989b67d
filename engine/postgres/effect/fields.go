package effect

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// fields reads little-endian fields in order. Past the end it gives zeros and short is set.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.b) {
		f.b, f.short = nil, true
		return make([]byte, n) // n is a small constant
	}
	out := f.b[:n:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) u8() uint8   { return f.take(1)[0] }
func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

func (f *fields) relation() wal.Relation {
	return wal.Relation{Tablespace: f.u32(), Database: f.u32(), File: f.u32()}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putChecksum writes the CRC32C of b.
func putChecksum(at, b []byte) { binary.LittleEndian.PutUint32(at, crc32.Checksum(b, castagnoli)) }
