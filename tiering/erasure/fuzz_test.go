package erasure

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// resum makes a changed header whole again.
func resum(f []byte) {
	n := binary.LittleEndian.Uint32(f[offHeaderLen:])
	binary.LittleEndian.PutUint32(f[n-4:], crc32.Checksum(f[:n-4], castagnoli))
}

// FuzzFragment: no input makes the parser panic or read out of bounds, and what
// passes is exactly what Encode would write for that header.
func FuzzFragment(f *testing.F) {
	_, fragments := mustEncode(f, testMeta(4, 2), randomBytes(1, 300))
	for _, frag := range fragments {
		f.Add(frag)
	}
	f.Add([]byte(Magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= HeaderBytes && bytes.HasPrefix(data, []byte(Magic)) {
			n := binary.LittleEndian.Uint32(data[offHeaderLen:])
			if n >= headerBytesMin && int(n) <= len(data) {
				data = bytes.Clone(data)
				resum(data) // let the fuzzer past the checksum
			}
		}
		h, err := ParseHeader(data)
		faults := VerifyFragment(nil, 0, data)
		if err != nil {
			if len(faults) == 0 {
				t.Fatalf("verified, but the header is refused: %v", err)
			}
			return
		}
		all := make([][]byte, h.K+h.M)
		all[h.Index] = data
		if h.Length < 1<<20 {
			Rebuild(h.Meta, all)
		}
	})
}
