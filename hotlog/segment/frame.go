package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/logcore/logcore"
)

// ErrShort: the bytes end inside a frame. DecodeFrame's n says how many it needs.
var ErrShort = errors.New("segment: frame goes on behind the bytes given")

// FrameBytes returns the size of a frame with a payload of n bytes, padding included.
func FrameBytes(n int) int64 {
	return (int64(n) + FrameHeaderBytes + FrameAlign - 1) &^ (FrameAlign - 1)
}

// salt is the checksum state that every frame of a segment begins with: the CRC-32C of
// shard and first LSN.
func (id ID) salt() uint32 {
	var b [12]byte
	le.PutUint32(b[:], uint32(id.Shard))
	le.PutUint64(b[4:], uint64(id.First))
	return crc32.Checksum(b[:], castagnoli)
}

// saltedSumPortable is saltedSum on any processor: the checksum of everything but the
// checksum field itself, padding included.
func saltedSumPortable(salt uint32, frame []byte) uint32 {
	sum := crc32.Update(salt, castagnoli, frame[:frmCRC])
	return crc32.Update(sum, castagnoli, frame[frmTime:])
}

// Salt is what an ID brings into the checksums of its frames.
type Salt uint32

// Salt returns the salt, for AppendSalted.
func (id ID) Salt() Salt { return Salt(id.salt()) }

// AppendFrame appends the frame of e to dst. prev is the checksum of the entry
// before e (of the segment before, for a segment's first), 0 at the very beginning.
// It returns the longer slice and the checksum of e. The payload is copied. It
// panics on a payload longer than PayloadBytesMax: callers check first.
func AppendFrame(dst []byte, id ID, prev uint32, e logcore.Entry) (out []byte, sum uint32) {
	return AppendSalted(dst, id.Salt(), prev, &e)
}

// AppendSalted is AppendFrame for a salt known already.
func AppendSalted(dst []byte, salt Salt, prev uint32, e *logcore.Entry) (out []byte, sum uint32) {
	if len(e.Payload) > PayloadBytesMax {
		panic(fmt.Sprintf("segment: payload of %d bytes", len(e.Payload)))
	}
	start, size := len(dst), int(FrameBytes(len(e.Payload)))
	if cap(dst)-start < size {
		dst = slices.Grow(dst, size)
	}
	dst = dst[:start+size]
	b := dst[start:]
	le.PutUint64(b[size-FrameAlign:], 0) // the padding; the payload goes over the rest of it
	le.PutUint32(b[frmMagic:], frameMagic)
	le.PutUint32(b[frmLength:], uint32(len(e.Payload)))
	le.PutUint64(b[frmLSN:], uint64(e.LSN))
	le.PutUint64(b[frmTerm:], e.Term)
	b[frmKind], b[frmVersion] = byte(e.Kind), FormatVersion
	le.PutUint16(b[frmFlags:], 0)
	le.PutUint32(b[frmPrev:], prev)
	le.PutUint64(b[frmTime:], uint64(e.Time))
	copy(b[frmTx:FrameHeaderBytes], e.Tx[:])
	copy(b[FrameHeaderBytes:], e.Payload)
	sum = saltedSum(uint32(salt), b)
	le.PutUint32(b[frmCRC:], sum)
	return dst, sum
}

// DecodeFrame checks and decodes the frame at the beginning of src. prev must be
// what AppendFrame was given. The payload aliases src. n is the size of the frame;
// with ErrShort it is how many bytes are needed to go on. Other errors wrap
// logcore.ErrCorrupt, or logcore.ErrUnsupportedVersion for an intact frame of a
// version, flag or kind that this build does not know.
func DecodeFrame(src []byte, id ID, prev uint32) (e logcore.Entry, sum uint32, n int, err error) {
	sum, n, err = decodeFrame(&e, src, id.salt(), prev)
	return e, sum, n, err
}

// decodeFrame is DecodeFrame for a known salt; after an error e means nothing. Reader.fast
// has the same checks for frames that pass; here is where an error gets its words.
func decodeFrame(e *logcore.Entry, src []byte, salt, prev uint32) (sum uint32, n int, err error) {
	if n, err = frameSize(src); err != nil {
		return 0, n, err
	}
	src = src[:n:n]
	sum = le.Uint32(src[frmCRC:])
	if got := saltedSum(salt, src); got != sum {
		return 0, n, damage("frame checksum is %08x, stored %08x", got, sum)
	}
	if p := le.Uint32(src[frmPrev:]); p != prev {
		return 0, n, damage("frame of LSN %d follows an entry with checksum %08x, not %08x", le.Uint64(src[frmLSN:]), p, prev)
	}
	if src[frmVersion] != FormatVersion {
		return 0, n, fmt.Errorf("%w: frame of version %d; this build reads version %d: use a newer build",
			logcore.ErrUnsupportedVersion, src[frmVersion], FormatVersion)
	}
	if f := le.Uint16(src[frmFlags:]) &^ frameFlagsKnown; f != 0 {
		return 0, n, fmt.Errorf("%w: frame with unknown flags %#x: use a newer build", logcore.ErrUnsupportedVersion, f)
	}
	parse(e, src)
	if !e.Kind.Valid() {
		return 0, n, fmt.Errorf("%w: frame of unknown kind %d: use a newer build", logcore.ErrUnsupportedVersion, uint8(e.Kind))
	}
	if !allZero(src[FrameHeaderBytes+len(e.Payload):]) {
		return 0, n, damage("frame of LSN %d: padding is not zero", e.LSN)
	}
	return sum, n, nil
}

// frameSize bounds the frame at the beginning of src.
func frameSize(src []byte) (int, error) {
	if len(src) < FrameHeaderBytes {
		return FrameHeaderBytes, ErrShort
	}
	if m := le.Uint32(src[frmMagic:]); m != frameMagic {
		return 0, damage("frame magic is %08x", m)
	}
	length := le.Uint32(src[frmLength:])
	if length > PayloadBytesMax {
		return 0, damage("frame length is %d, the limit is %d", length, PayloadBytesMax)
	}
	n := int(FrameBytes(int(length)))
	if len(src) < n {
		return n, ErrShort
	}
	return n, nil
}

// parse reads the fields of a frame whose size is known to fit. It fills e in place:
// copies of an entry are what small frames cost.
func parse(e *logcore.Entry, src []byte) {
	end := FrameHeaderBytes + int(le.Uint32(src[frmLength:]))
	e.LSN = logcore.LSN(le.Uint64(src[frmLSN:]))
	e.Term = le.Uint64(src[frmTerm:])
	e.Kind = logcore.Kind(src[frmKind])
	e.Time = logcore.HLC(le.Uint64(src[frmTime:]))
	e.Tx = logcore.TxID(src[frmTx:])
	e.Payload = src[FrameHeaderBytes:end:end]
}

// TrustedFrame decodes a frame that this process encoded itself and that has not left its
// memory: nothing is checked. The payload aliases src. It returns the frame, padding
// included, and its checksum.
func TrustedFrame(e *logcore.Entry, src []byte) (frame []byte, sum uint32) {
	parse(e, src)
	return src[:FrameBytes(len(e.Payload))], le.Uint32(src[frmCRC:])
}
