package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// putPreamble writes the first 32 bytes of a header, mark or footer of length bytes.
func putPreamble(b []byte, magic string, length int) {
	copy(b[preMagic:], magic)
	le.PutUint32(b[preVersion:], FormatVersion)
	le.PutUint32(b[preMinReader:], MinReaderVersion)
	le.PutUint64(b[preFlags:], 0)
	le.PutUint32(b[preLength:], uint32(length))
	le.PutUint32(b[preCRC:], crc32.Checksum(b[:preCRC], castagnoli))
}

// checkPreamble tells a structure of ours from garbage, and a newer one from ours.
// It needs preBytes bytes. The preamble has a checksum of its own so that a
// flipped bit in a version is corruption, and a true newer version is not.
func checkPreamble(b []byte, what, magic string, flagsKnown uint64) (length int, err error) {
	if string(b[preMagic:preMagic+8]) != magic {
		return 0, damage("%s: magic is %q", what, b[preMagic:preMagic+8])
	}
	if got, want := crc32.Checksum(b[:preCRC], castagnoli), le.Uint32(b[preCRC:]); got != want {
		return 0, damage("%s: preamble checksum is %08x, stored %08x", what, got, want)
	}
	if v := le.Uint32(b[preMinReader:]); v > FormatVersion {
		return 0, fmt.Errorf("%w: %s has format version %d and needs a reader of version %d; this build reads up to %d: use a newer build",
			logcore.ErrUnsupportedVersion, what, le.Uint32(b[preVersion:]), v, FormatVersion)
	}
	if f := le.Uint64(b[preFlags:]) &^ flagsKnown; f != 0 {
		return 0, fmt.Errorf("%w: %s has unknown flags %#x: use a newer build", logcore.ErrUnsupportedVersion, what, f)
	}
	return int(le.Uint32(b[preLength:])), nil
}

// checkBlock is checkPreamble for a header or a mark, which is one block with its checksum
// at the end.
func checkBlock(b []byte, what, magic string, flagsKnown uint64) error {
	if len(b) < BlockBytes {
		return damage("%s: %d bytes, want %d", what, len(b), BlockBytes)
	}
	length, err := checkPreamble(b, what, magic, flagsKnown)
	if err != nil {
		return err
	}
	if length != BlockBytes {
		return damage("%s: length is %d, want %d", what, length, BlockBytes)
	}
	if got, want := crc32.Checksum(b[:blockCRC], castagnoli), le.Uint32(b[blockCRC:]); got != want {
		return damage("%s checksum is %08x, stored %08x", what, got, want)
	}
	return nil
}

// DamageError says why bytes are not what they should be. It wraps
// logcore.ErrCorrupt; whoever knows the place wraps it in a CorruptionError.
type DamageError struct{ Reason string }

// Error returns the reason.
func (e *DamageError) Error() string { return "segment: " + e.Reason }

// Unwrap makes errors.Is(err, logcore.ErrCorrupt) true.
func (e *DamageError) Unwrap() error { return logcore.ErrCorrupt }

func damage(format string, args ...any) error {
	return &DamageError{Reason: fmt.Sprintf(format, args...)}
}

// allZero reports whether b holds only zeros.
func allZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
