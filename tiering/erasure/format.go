package erasure

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/minio/crc64nvme"

	"github.com/logcore/logcore"
)

// The layout of a fragment; FORMAT.md is the description.
const (
	Magic         = "LCFRAGMT"
	FormatVersion = 2 // the newest; every version is written with itself as min_reader_version

	HeaderBytes    = 192
	headerBytesMin = 24 // what the rules that never change need
	headerBytesMax = 4096

	offVersion   = 8
	offMinReader = 10
	offHeaderLen = 12
	offFlags     = 16
	offCluster   = 20
	offShard     = 36
	offSegment   = 40
	offFirst     = 48
	offLast      = 56
	offEpoch     = 64
	offKind      = 72
	offK         = 73
	offM         = 74
	offIndex     = 75
	offBlock     = 76
	offLength    = 80
	offDigest    = 88
	offKeyID     = 120
	offLabel     = 128 // since version 2
	offReserved  = offLabel + LabelBytes
	offHeaderSum = HeaderBytes - 4

	flagsKnown = 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader appends the header of fragment index of the object m describes.
func appendHeader(dst []byte, m Meta, index int) []byte {
	var h [HeaderBytes]byte
	le := binary.LittleEndian
	copy(h[:], Magic)
	le.PutUint16(h[offVersion:], uint16(m.Version))
	le.PutUint16(h[offMinReader:], uint16(m.Version))
	le.PutUint32(h[offHeaderLen:], HeaderBytes)
	copy(h[offCluster:], m.Cluster[:])
	le.PutUint32(h[offShard:], uint32(m.Shard))
	le.PutUint64(h[offSegment:], uint64(m.SegmentFirst))
	le.PutUint64(h[offFirst:], uint64(m.First))
	le.PutUint64(h[offLast:], uint64(m.Last))
	le.PutUint64(h[offEpoch:], m.Epoch)
	h[offKind], h[offK], h[offM], h[offIndex] = m.Kind, byte(m.K), byte(m.M), byte(index)
	le.PutUint32(h[offBlock:], uint32(m.BlockBytes))
	le.PutUint64(h[offLength:], uint64(m.Length))
	copy(h[offDigest:], m.Digest[:])
	copy(h[offKeyID:], m.KeyID[:])
	copy(h[offLabel:], m.Label[:])
	le.PutUint32(h[offHeaderSum:], crc32.Checksum(h[:offHeaderSum], castagnoli))
	return append(dst, h[:]...)
}

// headerSum returns the checksum of the header of fragment index: the salt of its
// blocks.
func headerSum(m Meta, index int) uint32 {
	h := appendHeader(make([]byte, 0, HeaderBytes), m, index)
	return binary.LittleEndian.Uint32(h[offHeaderSum:])
}

// sumBytes is the length of a block's checksum: CRC32C in version 1, CRC-64/NVME since.
func (m Meta) sumBytes() int {
	if m.Version == 1 {
		return 4
	}
	return 8
}

func (m Meta) putSum(dst []byte, sum uint64) {
	if m.Version == 1 {
		binary.LittleEndian.PutUint32(dst, uint32(sum))
		return
	}
	binary.LittleEndian.PutUint64(dst, sum)
}

func (m Meta) storedSum(src []byte) uint64 {
	if m.Version == 1 {
		return uint64(binary.LittleEndian.Uint32(src))
	}
	return binary.LittleEndian.Uint64(src)
}

// saltSum makes of a block's CRC the checksum that is stored: it covers the header's
// checksum and the stripe number too, so a block of another fragment or another place
// never passes. The salt comes last, so that a block can be summed before the header is
// known.
func saltSum(header uint32, stripe int64, block uint64) uint64 {
	salt := saltOf(header, stripe)
	return crc64nvme.Update(block, salt[:])
}

func saltOf(header uint32, stripe int64) (salt [12]byte) {
	binary.LittleEndian.PutUint32(salt[:], header)
	binary.LittleEndian.PutUint64(salt[4:], uint64(stripe))
	return salt
}

// blockSum is the checksum of a block; in version 1 the salt came first.
func (m Meta) blockSum(header uint32, stripe int64, block []byte) uint64 {
	if m.Version == 1 {
		salt := saltOf(header, stripe)
		return uint64(crc32.Update(crc32.Checksum(salt[:], castagnoli), castagnoli, block))
	}
	return saltSum(header, stripe, crc64nvme.Checksum(block))
}

// ParseHeader reads and verifies the header of a fragment; src may be longer. A
// damaged header is an error that wraps logcore.ErrCorrupt; one that is whole but of
// a version, flag or field this build doesn't know wraps logcore.ErrUnsupportedVersion.
func ParseHeader(src []byte) (Header, error) {
	if len(src) < headerBytesMin {
		return Header{}, corrupt(0, "%d bytes are too few for a header", len(src))
	}
	if string(src[:len(Magic)]) != Magic {
		return Header{}, corrupt(0, "no fragment: magic is %q", src[:len(Magic)])
	}
	le := binary.LittleEndian
	n := le.Uint32(src[offHeaderLen:])
	if n < headerBytesMin || n > headerBytesMax || int(n) > len(src) {
		return Header{}, corrupt(offHeaderLen, "header length %d: want %d to %d within %d bytes", n, headerBytesMin, headerBytesMax, len(src))
	}
	// The place and the reach of the header's checksum are the same in every version, so
	// a newer version is told from a damaged one.
	if got, want := crc32.Checksum(src[:n-4], castagnoli), le.Uint32(src[n-4:]); got != want {
		return Header{}, corrupt(int64(n)-4, "header checksum is %08x, stored %08x", got, want)
	}
	if v := le.Uint16(src[offMinReader:]); v > FormatVersion {
		return Header{}, fmt.Errorf("%w: fragment version %d needs a reader of version %d, this build has %d", logcore.ErrUnsupportedVersion, le.Uint16(src[offVersion:]), v, FormatVersion)
	}
	if f := le.Uint32(src[offFlags:]); f&^uint32(flagsKnown) != 0 {
		return Header{}, fmt.Errorf("%w: fragment flags %08x are not known", logcore.ErrUnsupportedVersion, f)
	}
	if n < HeaderBytes {
		return Header{}, corrupt(offHeaderLen, "header length %d is below version 1's %d", n, HeaderBytes)
	}
	return decodeHeader(src)
}

func decodeHeader(src []byte) (h Header, err error) {
	le := binary.LittleEndian
	h.Cluster = [16]byte(src[offCluster:])
	h.Shard = logcore.ShardID(le.Uint32(src[offShard:]))
	h.SegmentFirst = logcore.LSN(le.Uint64(src[offSegment:]))
	h.First = logcore.LSN(le.Uint64(src[offFirst:]))
	h.Last = logcore.LSN(le.Uint64(src[offLast:]))
	h.Epoch = le.Uint64(src[offEpoch:])
	h.Kind, h.K, h.M, h.Index = src[offKind], int(src[offK]), int(src[offM]), int(src[offIndex])
	h.BlockBytes = int(le.Uint32(src[offBlock:]))
	length := le.Uint64(src[offLength:])
	if length > ObjectBytesMax {
		return h, corrupt(offLength, "object length %d is over the limit %d", length, ObjectBytesMax)
	}
	h.Length = int64(length)
	h.Digest = [32]byte(src[offDigest:])
	h.KeyID = [8]byte(src[offKeyID:])
	// A newer version that readers of ours may read is read as ours.
	h.Version = int(min(le.Uint16(src[offVersion:]), FormatVersion))
	if h.Version >= 2 {
		h.Label = [LabelBytes]byte(src[offLabel:])
	}
	if err := h.Meta.Validate(); err != nil {
		return h, corrupt(offKind, "header: %v", err)
	}
	if h.Index >= h.K+h.M {
		return h, corrupt(offIndex, "index %d of %d+%d fragments", h.Index, h.K, h.M)
	}
	return h, nil
}

// corrupt makes a CorruptionError at an offset of the fragment; the caller that knows
// the place and the key fills them in.
func corrupt(offset int64, format string, args ...any) error {
	return &logcore.CorruptionError{Place: "fragment", Object: "?", Offset: offset, Reason: fmt.Sprintf(format, args...)}
}
