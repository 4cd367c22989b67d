package pageserver

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
)

// encodeMarker returns the content of the file that names the store's format.
func encodeMarker() []byte {
	b := append([]byte(nil), markerMagic...)
	b = binary.LittleEndian.AppendUint16(b, markerFormatVersion)
	b = binary.LittleEndian.AppendUint16(b, markerMinReaderVersion)
	b = binary.LittleEndian.AppendUint32(b, 0) // flags
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// decodeMarker reports whether this build reads the store: nil, an error that wraps
// logcore.ErrUnsupportedVersion or logcore.ErrCorrupt, or errOldStore.
func decodeMarker(b []byte) error {
	bad := func(reason string) error {
		return &logcore.CorruptionError{Place: "page store", Object: markerFile, Offset: -1, Reason: reason}
	}
	if len(b) != markerBytes || string(b[:8]) != markerMagic {
		return bad("not the format marker of a page store")
	}
	if binary.LittleEndian.Uint64(b[16:]) != xxh3.Hash(b[:16]) {
		return bad("checksum mismatch")
	}
	version, reader := binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:])
	if version == 0 || reader == 0 || reader > version {
		return bad(fmt.Sprintf("version %d for readers from %d on: impossible", version, reader))
	}
	flags := binary.LittleEndian.Uint32(b[12:])
	if reader > markerFormatVersion || flags&^markerKnownFlags != 0 {
		return fmt.Errorf("%w: page store of version %d (readers from %d on, flags %#x), this build reads up to %d: upgrade, or remove the page server's directory to build it again",
			logcore.ErrUnsupportedVersion, version, reader, flags, markerFormatVersion)
	}
	if version < markerOldestVersion {
		return errOldStore
	}
	return nil
}

// errOldStore: the store has a format that only older builds read.
var errOldStore = errors.New("pageserver: the page store has an older format")

// sizeValue is the length of a space from a pos on.
type sizeValue struct {
	pages    uint32
	pageSize uint32 // 0: the space does not exist
}

func encodeSize(v sizeValue) []byte {
	b := binary.LittleEndian.AppendUint32(nil, v.pages)
	return binary.LittleEndian.AppendUint32(b, v.pageSize)
}

func decodeSize(key, sealed []byte) (sizeValue, error) {
	b, err := unseal(key, sealed, 8)
	if err != nil {
		return sizeValue{}, err
	}
	return sizeValue{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}, nil
}

// cutValue says that at its pos every page from low on lost its content. older is the
// newest earlier cut of the same log and space with a smaller low, zero when there is none.
type cutValue struct {
	low   uint32
	older pos
}

func encodeCut(v cutValue) []byte {
	b := binary.LittleEndian.AppendUint32(nil, v.low)
	b = binary.LittleEndian.AppendUint64(b, uint64(v.older.lsn))
	return binary.LittleEndian.AppendUint32(b, v.older.seq)
}

func decodeCut(key, sealed []byte) (cutValue, error) {
	b, err := unseal(key, sealed, 16)
	if err != nil {
		return cutValue{}, err
	}
	return cutValue{binary.LittleEndian.Uint32(b), pos{logcore.LSN(binary.LittleEndian.Uint64(b[4:])), binary.LittleEndian.Uint32(b[12:])}}, nil
}

// appendTime is the clock of a commit.
func appendTime(dst []byte, t logcore.HLC) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(t))
}

// stateValue is how far a log is ingested, and which log of which incarnation it is.
type stateValue struct {
	incarnation uint64
	parent      logcore.LogID
	branchLSN   logcore.LSN
	ingested    logcore.LSN // nothing of the log up to it is missing, as far as the source said
	entry       logcore.LSN // the last entry
	visible     logcore.LSN // the last commit
	visibleTime logcore.HLC
	epoch       logcore.Epoch // of the last entry, as the three below
	sequence    uint64
	entryTime   logcore.HLC
	entryTx     logcore.TxID
	name        string
	format      string // of the payloads; empty until it is known
}

const stateFixedBytes = 10*8 + len(logcore.TxID{})

func encodeState(v stateValue) []byte {
	b := make([]byte, 0, stateFixedBytes+1+len(v.format)+len(v.name)+checksumBytes)
	for _, n := range []uint64{v.incarnation, uint64(v.parent), uint64(v.branchLSN), uint64(v.ingested),
		uint64(v.entry), uint64(v.visible), uint64(v.visibleTime), uint64(v.epoch), v.sequence, uint64(v.entryTime)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, v.entryTx[:]...)
	b = append(append(b, byte(len(v.format))), v.format...)
	return append(b, v.name...)
}

func decodeState(key, sealed []byte) (stateValue, error) {
	b, err := unseal(key, sealed, -1)
	if err != nil {
		return stateValue{}, err
	}
	if len(b) <= stateFixedBytes || len(b) <= stateFixedBytes+int(b[stateFixedBytes]) {
		return stateValue{}, corruptValue(key, "state of %d bytes", len(b))
	}
	name := stateFixedBytes + 1 + int(b[stateFixedBytes])
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return stateValue{n(0), logcore.LogID(n(1)), logcore.LSN(n(2)), logcore.LSN(n(3)), logcore.LSN(n(4)), logcore.LSN(n(5)),
		logcore.HLC(n(6)), logcore.Epoch(n(7)), n(8), logcore.HLC(n(9)), logcore.TxID(b[80:stateFixedBytes]), string(b[name:]), string(b[stateFixedBytes+1 : name])}, nil
}

// part is an entry of a transaction that is still open.
func encodePart(epoch logcore.Epoch, payload []byte) []byte {
	b := make([]byte, 0, 8+len(payload)+checksumBytes)
	return append(binary.LittleEndian.AppendUint64(b, uint64(epoch)), payload...)
}

func decodePart(key, sealed []byte) (logcore.Epoch, []byte, error) {
	b, err := unseal(key, sealed, -1)
	if err != nil {
		return 0, nil, err
	}
	if len(b) < 8 {
		return 0, nil, corruptValue(key, "part of %d bytes", len(b))
	}
	return logcore.Epoch(binary.LittleEndian.Uint64(b)), b[8:], nil
}

// objectValue is an object from a pos on.
type objectValue struct {
	gone bool
	data []byte
}

const objectGone = 1

func appendObject(dst []byte, data []byte) []byte {
	if data == nil {
		return append(dst, objectGone)
	}
	return append(append(dst, 0), data...)
}

func decodeObject(key, sealed []byte) (objectValue, error) {
	b, err := unseal(key, sealed, -1)
	if err != nil {
		return objectValue{}, err
	}
	switch {
	case len(b) == 0 || b[0] == objectGone && len(b) > 1:
		return objectValue{}, corruptValue(key, "object of %d bytes", len(b))
	case b[0] > objectGone:
		return objectValue{}, fmt.Errorf("%w: object with flags %#x: upgrade, or remove the page server's directory to build it again", logcore.ErrUnsupportedVersion, b[0])
	}
	return objectValue{b[0] == objectGone, b[1:]}, nil
}

// decoderChunkBytes is how much of a decoder's state one value holds: what changed of
// a large state is written, not all of it.
const decoderChunkBytes = 64 << 10

// appendDecoderState is chunk number no of a decoder's state. The first one begins with
// the length of the whole.
func appendDecoderState(dst, state []byte, no int) []byte {
	if no == 0 {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(state)))
	}
	return append(dst, decoderChunk(state, no)...)
}

// decoderChunk returns the part of a state that chunk no holds.
func decoderChunk(state []byte, no int) []byte {
	from := min(no*decoderChunkBytes, len(state))
	return state[from:min(from+decoderChunkBytes, len(state))]
}
