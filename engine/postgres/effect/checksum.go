package effect

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putChecksum writes the CRC32C of b.
func putChecksum(at, b []byte) { binary.LittleEndian.PutUint32(at, crc32.Checksum(b, castagnoli)) }
