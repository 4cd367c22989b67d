package wal

import (
	"encoding/binary"
	"testing"
)

// FuzzRecord parses whole records whose checksum is right and whose content is anything.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{0, 0x30, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 255, 1, 7})
	f.Add([]byte{254, 1, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append(make([]byte, recordHeaderBytes), body...)
		binary.LittleEndian.PutUint32(b, uint32(len(b)))
		var r Record
		r.parseHeader(b)
		if r.parseBody(b) != nil {
			return
		}
		total := len(r.Data)
		for i := range r.Blocks {
			total += len(r.Blocks[i].Data) + len(r.Blocks[i].Image.Bytes)
		}
		if total > len(body) {
			t.Errorf("%d bytes of content in a body of %d", total, len(body))
		}
	})
}
