package tiering

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
)

// The layout that objects and manifest records share, and each one's own; FORMAT.md is
// the description. Both begin with a prelude and end their header with a CRC32C:
//
//	magic 8 | format_version 2 | min_reader_version 2 | header_bytes 4 | flags 4 | … | crc 4
const (
	objectMagic   = "LCOBJECT"
	recordMagic   = "LCMANIFR"
	formatVersion = 2 // of objects; also the min_reader_version they are written with
	recordVersion = 2 // of manifest records; likewise

	preludeBytes  = 20
	offVersion    = 8
	offMinReader  = 10
	offHeaderLen  = 12
	offFlags      = 16
	offCluster    = 20
	offShard      = 36
	headerSumSize = 4

	rawBytesMax  = 512 << 20 // frames in one object
	targetsMax   = 64
	targetAbsent = 0xff // a fragment that is not placed
)

// Offsets in the header of an object.
const (
	offObjSegment   = 40
	offObjFirst     = 48
	offObjLast      = 56
	offObjFirstTime = 64
	offObjLastTime  = 72
	offObjPrev      = 80
	offObjSum       = 84
	offObjSealed    = 88
	offObjCodec     = 89
	offObjAEAD      = 90
	offObjKeyScheme = 91
	offObjKeyID     = 92
	offObjSeed      = 100
	offObjRaw       = 132
	offObjChunk     = 140
	offObjChunks    = 144
	offObjWrapped   = 148
	objFixedBytes   = 160
	chunkEntryBytes = 16

	codecZstd        = 1
	aeadAES256GCM    = 1
	keySchemeDerived = 1
	keySchemeWrapped = 2 // derived, and the master key stands wrapped in the header

	objHeaderMax     = 1 << 20
	chunkBytesMin    = 4 << 10
	chunkBytesMax    = 16 << 20
	wrappedKeyMax    = 4 << 10
	chunkSealedExtra = 16       // the AEAD's tag
	chunkZstdExtra   = 64 << 10 // more than zstd ever adds to a chunk
)

// Offsets in a manifest record.
const (
	offRecNumber      = 40
	offRecEpoch       = 48
	offRecPrev        = 56
	offRecKind        = 88
	offRecIncarnation = 96
	offRecArchiver    = 104
	recFixedBytes     = 120
	recTailBytes      = 4 + 8 + 32 + 4 // authenticator scheme, key id, authenticator, crc
	recBytesMax       = 256 << 20
	authHMAC          = 1 // version 1
	authEd25519       = 2

	tombstoneBytes  = 1 + 6*8
	signerBytes     = 8 + 32 + 8 + 64
	settingKeyMax   = 255
	settingValueMax = 4096
	leftMax         = 1024 // former targets
)

// What a record says of a target.
const (
	targetActive  byte = 1
	targetLeaving byte = 2 // it is being evacuated
	targetLeft    byte = 3 // it was removed
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendPrelude appends magic, versions, a header length still to be set, and no flags.
func appendPrelude(dst []byte, magic string) []byte {
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint16(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint16(dst, formatVersion)
	return append(dst, make([]byte, 8)...)
}

// finishHeader sets the header length and appends the checksum.
func finishHeader(h []byte) []byte {
	binary.LittleEndian.PutUint32(h[offHeaderLen:], uint32(len(h)+headerSumSize))
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

// parsePrelude returns the header that src begins with, checksum verified and cut off.
// What it checks has the same place in every version, so that damage is told from a
// newer version.
func parsePrelude(src []byte, magic string, headerMin, headerMax int) ([]byte, error) {
	le := binary.LittleEndian
	if len(src) < preludeBytes+headerSumSize {
		return nil, damaged(0, "%d bytes are too few for a header", len(src))
	}
	if string(src[:8]) != magic {
		return nil, damaged(0, "magic is %q, want %q", src[:8], magic)
	}
	n := int64(le.Uint32(src[offHeaderLen:]))
	if n < preludeBytes+headerSumSize || n > int64(headerMax) || n > int64(len(src)) {
		return nil, damaged(offHeaderLen, "header length %d: want at most %d within %d bytes", n, headerMax, len(src))
	}
	if got, want := crc32.Checksum(src[:n-headerSumSize], castagnoli), le.Uint32(src[n-headerSumSize:]); got != want {
		return nil, damaged(n-headerSumSize, "header checksum is %08x, stored %08x", got, want)
	}
	known := uint16(formatVersion)
	if magic == recordMagic {
		known = recordVersion
	}
	if v := le.Uint16(src[offMinReader:]); v > known {
		return nil, fmt.Errorf("%w: %s version %d needs a reader of version %d, this build has %d: use a newer build",
			logcore.ErrUnsupportedVersion, magic, le.Uint16(src[offVersion:]), v, known)
	}
	if f := le.Uint32(src[offFlags:]); f != 0 {
		return nil, fmt.Errorf("%w: %s flags %08x are not known", logcore.ErrUnsupportedVersion, magic, f)
	}
	if n < int64(headerMin) {
		return nil, damaged(offHeaderLen, "header length %d: want at least %d", n, headerMin)
	}
	return src[:n-headerSumSize], nil
}

// damaged makes a CorruptionError at an offset; at fills in the place.
func damaged(offset int64, format string, args ...any) error {
	return &logcore.CorruptionError{Place: "archive", Object: "?", Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// at names the target and the key in a CorruptionError that doesn't know them yet;
// other errors it wraps with both.
func at(err error, target, key string) error {
	if err == nil {
		return nil
	}
	var ce *logcore.CorruptionError
	if errors.As(err, &ce) && ce.Object == "?" {
		c := *ce
		c.Place, c.Object = target, key
		return &c
	}
	return fmt.Errorf("%s: %s: %w", target, key, err)
}
