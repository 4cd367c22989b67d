package stripemap

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/xxh3"
)

const (
	// Count is how many stripes there are, for ever: what moves between page servers is a
	// stripe, and which page is in which is never recomputed. With 256 a cluster of 32
	// page servers has 8 each, so none has more than an eighth above its share.
	Count = 256

	// GroupPages is how many neighbouring pages stay together. A read-ahead of up to 32
	// pages crosses the end of a group at most once in four times, and is then two calls
	// in parallel; and 1 GiB of 8 KiB pages still is 1024 groups, four for each stripe.
	GroupPages = 128
)

// Of returns the stripe of a page. root is the log at the root of the branch tree: a
// branch reads its parent's pages, so they have to be where its own are. space is the
// lower half of the space's number: the upper half names a database, which can be
// copied whole, and a copy reads what it was copied from.
func Of(root, space uint64, page uint32) int {
	var b [20]byte
	binary.LittleEndian.PutUint64(b[:], root)
	binary.LittleEndian.PutUint64(b[8:], space)
	binary.LittleEndian.PutUint32(b[16:], page/GroupPages)
	return int(xxh3.Hash(b[:]) % Count)
}

// SetBytes is the length of a Set's encoding.
const SetBytes = Count / 8

// Set is a set of stripes. The zero value is empty.
type Set [Count / 64]uint64

// All is the set of every stripe.
var All = Set{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}

// Has reports whether a stripe is in the set.
func (s Set) Has(stripe int) bool { return s[stripe/64]>>(stripe%64)&1 != 0 }

// With returns the set and one stripe more.
func (s Set) With(stripe int) Set {
	s[stripe/64] |= 1 << (stripe % 64)
	return s
}

// Or returns the stripes that are in either.
func (s Set) Or(o Set) Set {
	for i := range s {
		s[i] |= o[i]
	}
	return s
}

// And returns the stripes that are in both.
func (s Set) And(o Set) Set {
	for i := range s {
		s[i] &= o[i]
	}
	return s
}

// Without returns the stripes of s that are not in o.
func (s Set) Without(o Set) Set {
	for i := range s {
		s[i] &^= o[i]
	}
	return s
}

// Empty reports whether there is none.
func (s Set) Empty() bool { return s == Set{} }

// Len is the number of stripes.
func (s Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Stripes returns them ascending.
func (s Set) Stripes() []int {
	out := make([]int, 0, s.Len())
	for i := range Count {
		if s.Has(i) {
			out = append(out, i)
		}
	}
	return out
}

// Bytes returns the set's encoding: stripe i is bit i%8 of byte i/8.
func (s Set) Bytes() []byte {
	b := make([]byte, 0, SetBytes)
	for _, w := range s {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// SetOf decodes a set; false when b is not SetBytes long.
func SetOf(b []byte) (Set, bool) {
	var s Set
	if len(b) != SetBytes {
		return s, false
	}
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s, true
}
