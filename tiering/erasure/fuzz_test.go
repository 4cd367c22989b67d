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

// FuzzRebuild: whatever is done to the fragments of an object, it is rebuilt as it was, or
// not at all.
func FuzzRebuild(f *testing.F) {
	object := randomBytes(2, 700)
	m, fragments := mustEncode(f, testMeta(4, 2), object)
	f.Add([]byte{0, 0, 0, 1}, uint16(0), uint16(700))
	f.Add([]byte{3, 1, 200, 255, 2, 5, 0, 1}, uint16(300), uint16(10))
	f.Fuzz(func(t *testing.T, ops []byte, off, n uint16) {
		left := make([][]byte, len(fragments))
		for i := range left {
			left[i] = bytes.Clone(fragments[i])
		}
		for ; len(ops) >= 4; ops = ops[4:] { // fragment, what, where, with what
			i, j := int(ops[0])%6, int(ops[3])%6
			at := int(ops[2])
			switch ops[1] % 5 {
			case 0:
				left[i] = nil
			case 1:
				left[i], left[j] = left[j], left[i]
			case 2:
				left[i] = left[i][:min(at, len(left[i]))]
			case 3:
				if at < len(left[i]) {
					left[i] = bytes.Clone(left[i])
					left[i][at] ^= ops[3]
				}
			case 4:
				left[i] = append(bytes.Clone(left[i]), ops[2:4]...)
			}
		}
		got, _, err := Rebuild(m, left)
		if err == nil && !bytes.Equal(got, object) || err != nil && got != nil {
			t.Fatalf("%v, %d bytes", err, len(got))
		}
		start, length, err := m.FragmentRange(int64(off), int64(n))
		if err != nil {
			return
		}
		pieces := make([][]byte, 6)
		for i, p := range left {
			if p != nil {
				p = p[min(start, int64(len(p))):]
				pieces[i] = p[:min(length, int64(len(p)))]
			}
		}
		part, _, err := ReadRange(m, int64(off), int64(n), pieces)
		if err == nil && !bytes.Equal(part, object[off:int(off)+int(n)]) {
			t.Fatal("a range of other bytes")
		}
	})
}
