package erasure

import (
	"crypto/sha256"
	"encoding/binary"
)

// What a SHA-256 is of is told by its first byte, so that none passes for another.
const (
	hashOfBlock    = 0
	hashOfObject   = 1
	hashOfFragment = 2
	hashOfOther    = 3
)

// blockHash is the hash of one block, padding included.
func blockHash(block []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write([]byte{hashOfBlock})
	h.Write(block)
	h.Sum(sum[:0])
	return sum
}

// digestOf is the digest of a version 2 object, made of the hashes of its data blocks:
// each byte of a fragment is hashed once, and blocks beside each other.
func digestOf(m Meta, hash func(stripe, i int) [32]byte) (sum [32]byte) {
	h := sha256.New()
	b := append(make([]byte, 0, 14), hashOfObject, byte(m.K))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.BlockBytes))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Length))
	h.Write(b)
	for s := range int(m.stripes()) {
		for i := range m.K {
			one := hash(s, i)
			h.Write(one[:])
		}
	}
	h.Sum(sum[:0])
	return sum
}

// sumOf is the hash of a version 2 fragment: its header, and of each block the hash and
// the stored checksum.
func sumOf(m Meta, fragment []byte, hash func(stripe int) [32]byte) (sum [32]byte) {
	h := sha256.New()
	h.Write([]byte{hashOfFragment})
	h.Write(fragment[:HeaderBytes])
	for s := range m.stripes() {
		one := hash(int(s))
		h.Write(one[:])
		end := m.blockOffset(s) + int64(m.blockBytes(s))
		h.Write(fragment[end : end+int64(m.sumBytes())])
	}
	h.Sum(sum[:0])
	return sum
}

// Sum returns the hash of a fragment that a manifest names it by: SHA-256 of all of it in
// version 1, in version 2 of its header, block hashes and block checksums. It covers every
// byte, and for bytes that are no fragment it is no fragment's hash.
func Sum(fragment []byte) [32]byte {
	h, err := ParseHeader(fragment)
	switch {
	case err != nil || int64(len(fragment)) != h.FragmentBytes():
		other := sha256.New()
		other.Write([]byte{hashOfOther})
		other.Write(fragment)
		return [32]byte(other.Sum(nil))
	case h.Version == 1:
		return sha256.Sum256(fragment)
	}
	return sumOf(h.Meta, fragment, func(s int) [32]byte {
		at := h.blockOffset(int64(s))
		return blockHash(fragment[at : at+int64(h.blockBytes(int64(s)))])
	})
}

// DigestOf returns the digest that object has as the one m describes: it is that object
// when it equals m.Digest.
func DigestOf(m Meta, object []byte) [32]byte {
	if m.Version == 1 {
		return sha256.Sum256(object)
	}
	m.Length = int64(len(object))
	src := newGather([][]byte{object})
	hashes := make([][32]byte, int(m.stripes())*m.K)
	inParallel(len(hashes), func(j int) {
		s := int64(j / m.K)
		n := m.blockBytes(s)
		at := m.dataOffset(s, j%m.K)
		if at+int64(n) <= m.Length {
			hashes[j] = blockHash(object[at : at+int64(n)])
			return
		}
		padded := make([]byte, n)
		src.copyAt(padded, at)
		hashes[j] = blockHash(padded)
	})
	return digestOf(m, func(s, i int) [32]byte { return hashes[s*m.K+i] })
}
