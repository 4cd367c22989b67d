package erasure

import (
	"fmt"

	"github.com/logcore/logcore"
)

// Meta describes an object: everything in a fragment's header but its index. Two
// fragments belong together exactly when their Metas are equal.
type Meta struct {
	Cluster      [16]byte
	Shard        logcore.ShardID
	SegmentFirst logcore.LSN
	First, Last  logcore.LSN // entries in the object, both included
	Epoch        uint64      // of the archiver that wrote it
	Kind         uint8       // the caller's: what the object is; not 0
	K, M         int
	BlockBytes   int              // of a full block, 1 to BlockBytesMax
	Length       int64            // of the object, 1 to ObjectBytesMax
	Digest       [32]byte         // of the object: see DigestOf
	KeyID        [8]byte          // the master key it was sealed under
	Label        [LabelBytes]byte // the caller's, stored as it is; zeros in version 1
	Version      int              // of the fragments' format; 0 = FormatVersion when coding
}

// Header is what a fragment says of itself.
type Header struct {
	Meta
	Index int // 0 to K+M-1; the first K hold the object's own bytes
}

// LabelBytes is the length of Meta.Label.
const LabelBytes = 40

func (m Meta) withDefaults() Meta {
	if m.Version == 0 {
		m.Version = FormatVersion
	}
	if m.BlockBytes == 0 {
		m.BlockBytes = DefaultBlockBytes
	}
	return m
}

// DefaultBlockBytes keeps a stripe of 4+2 within a CPU's second-level cache.
const DefaultBlockBytes = 128 << 10

// Validate checks the ranges. The error wraps logcore.ErrInvalid.
func (m Meta) Validate() error {
	if err := ValidateKM(m.K, m.M); err != nil {
		return err
	}
	switch {
	case m.Version < 1 || m.Version > FormatVersion:
		return fmt.Errorf("%w: fragment version %d: want 1 to %d", logcore.ErrInvalid, m.Version, FormatVersion)
	case m.Version == 1 && m.Label != [LabelBytes]byte{}:
		return fmt.Errorf("%w: fragments of version 1 have no label", logcore.ErrInvalid)
	case m.First == 0 || m.SegmentFirst == 0 || m.SegmentFirst > m.First || m.First > m.Last:
		return fmt.Errorf("%w: entries [%d,%d] of segment %d", logcore.ErrInvalid, m.First, m.Last, m.SegmentFirst)
	case m.Kind == 0:
		return fmt.Errorf("%w: object kind 0", logcore.ErrInvalid)
	case m.BlockBytes < 1 || m.BlockBytes > BlockBytesMax:
		return fmt.Errorf("%w: block of %d bytes: want 1 to %d", logcore.ErrInvalid, m.BlockBytes, BlockBytesMax)
	case m.Length < 1 || m.Length > ObjectBytesMax:
		return fmt.Errorf("%w: object of %d bytes: want 1 to %d", logcore.ErrInvalid, m.Length, ObjectBytesMax)
	}
	return nil
}

// stripeBytes is how much of the object a full stripe holds.
func (m Meta) stripeBytes() int64 { return int64(m.K) * int64(m.BlockBytes) }

// stripes is how many stripes the object has.
func (m Meta) stripes() int64 { return (m.Length + m.stripeBytes() - 1) / m.stripeBytes() }

// blockBytes is the length of the blocks of a stripe: full, but for the last one,
// whose k blocks share evenly what is left, the last of them padded with zeros.
func (m Meta) blockBytes(stripe int64) int {
	left := m.Length - stripe*m.stripeBytes()
	if left >= m.stripeBytes() {
		return m.BlockBytes
	}
	return int((left + int64(m.K) - 1) / int64(m.K))
}

// blockOffset is where the block of a stripe begins in every fragment.
func (m Meta) blockOffset(stripe int64) int64 {
	return HeaderBytes + stripe*int64(m.BlockBytes+m.sumBytes())
}

// dataOffset is where in the object data block i of a stripe begins; beyond its end for
// blocks that are padding only.
func (m Meta) dataOffset(stripe int64, i int) int64 {
	return stripe*m.stripeBytes() + int64(i)*int64(m.blockBytes(stripe))
}

// FragmentBytes is the length of each fragment of the object.
func (m Meta) FragmentBytes() int64 {
	last := m.stripes() - 1
	return m.blockOffset(last) + int64(m.blockBytes(last)) + int64(m.sumBytes())
}

// FragmentRange returns which bytes of each fragment hold the stripes of
// [offset, offset+length) of the object: what ReadRange needs of k fragments.
func (m Meta) FragmentRange(offset, length int64) (start, n int64, err error) {
	first, last, err := m.stripeRange(offset, length)
	if err != nil {
		return 0, 0, err
	}
	start = m.blockOffset(first)
	return start, m.blockOffset(last) + int64(m.blockBytes(last)) + int64(m.sumBytes()) - start, nil
}

func (m Meta) stripeRange(offset, length int64) (first, last int64, err error) {
	if offset < 0 || length < 1 || offset >= m.Length || length > m.Length-offset {
		return 0, 0, fmt.Errorf("%w: range of %d bytes at %d of an object of %d", logcore.ErrInvalid, length, offset, m.Length)
	}
	return offset / m.stripeBytes(), (offset + length - 1) / m.stripeBytes(), nil
}
