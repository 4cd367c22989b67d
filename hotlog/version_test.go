package hotlog

import (
	"encoding/binary"
	"hash/crc32"
)

// newerVersion makes the preamble of a block that of a version which this build can't
// read.
func newerVersion(block []byte) []byte {
	binary.LittleEndian.PutUint32(block[12:], 2)
	binary.LittleEndian.PutUint32(block[28:], crc32.Checksum(block[:28], crc32.MakeTable(crc32.Castagnoli)))
	return block
}
