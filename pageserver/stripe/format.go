package stripe

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// The layout of the files; see FORMAT.md.
const (
	identityFile  = "IDENTITY"
	stripesFile   = "STRIPES"
	storesDir     = "stripes"
	identityMagic = "LCPAGEID"
	stripesMagic  = "LCSTRIPE"

	formatVersion    = 1
	minReaderVersion = 1
	headerBytes      = 16
	checksumBytes    = 8

	flagComplete      = 1 << 0
	stripesKnownFlags = flagComplete
)

func encode(magic string, flags uint32, body []byte) []byte {
	b := append([]byte(nil), magic...)
	b = binary.LittleEndian.AppendUint16(b, formatVersion)
	b = binary.LittleEndian.AppendUint16(b, minReaderVersion)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, body...)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// anyBody has decode take a body of any length.
const anyBody = -1

// decode returns the flags and the body. Errors wrap logcore.ErrCorrupt or
// logcore.ErrUnsupportedVersion.
func decode(file, magic string, known uint32, bodyBytes int, b []byte) (uint32, []byte, error) {
	bad := func(format string, args ...any) error {
		return &logcore.CorruptionError{Place: "page server", Object: file, Offset: -1, Reason: fmt.Sprintf(format, args...)}
	}
	if len(b) < headerBytes+checksumBytes || string(b[:8]) != magic {
		return 0, nil, bad("%d bytes that don't begin as such a file", len(b))
	}
	end := len(b) - checksumBytes
	if binary.LittleEndian.Uint64(b[end:]) != xxh3.Hash(b[:end]) {
		return 0, nil, bad("checksum mismatch")
	}
	version, reader, flags := binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:]), binary.LittleEndian.Uint32(b[12:])
	if version == 0 || reader == 0 || reader > version {
		return 0, nil, bad("version %d for readers from %d on: impossible", version, reader)
	}
	if reader > formatVersion || flags&^known != 0 {
		return 0, nil, fmt.Errorf("%w: %s of version %d (readers from %d on, flags %#x), this build reads up to %d: upgrade",
			logcore.ErrUnsupportedVersion, file, version, reader, flags, formatVersion)
	}
	if bodyBytes != anyBody && end-headerBytes != bodyBytes {
		return 0, nil, bad("body of %d bytes, want %d", end-headerBytes, bodyBytes)
	}
	return flags, b[headerBytes:end], nil
}

func encodeIdentity(id uint64) []byte {
	return encode(identityMagic, 0, binary.LittleEndian.AppendUint64(nil, id))
}

func decodeIdentity(b []byte) (uint64, error) {
	_, body, err := decode(identityFile, identityMagic, 0, 8, b)
	if err != nil {
		return 0, err
	}
	id := binary.LittleEndian.Uint64(body)
	if id == 0 {
		return 0, &logcore.CorruptionError{Place: "page server", Object: identityFile, Offset: headerBytes, Reason: "id 0"}
	}
	return id, nil
}

func encodeStripes(set stripemap.Set, complete bool) []byte {
	var flags uint32
	if complete {
		flags |= flagComplete
	}
	return encode(stripesMagic, flags, set.Bytes())
}

func decodeStripes(b []byte) (set stripemap.Set, complete bool, err error) {
	flags, body, err := decode(stripesFile, stripesMagic, stripesKnownFlags, stripemap.SetBytes, b)
	if err != nil {
		return set, false, err
	}
	if set, _ = stripemap.SetOf(body); set.Empty() {
		return set, false, &logcore.CorruptionError{Place: "page server", Object: stripesFile, Offset: headerBytes, Reason: "no stripes"}
	}
	return set, flags&flagComplete != 0, nil
}
