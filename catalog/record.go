package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
)

// Record is the envelope of a log's entry (kinds Data, Part, Commit, Abort): what the
// frame does not say about it.
type Record struct {
	Log      logcore.LogID
	Epoch    logcore.Epoch
	Sequence uint64 // from 1 within the epoch
	Position []byte // the engine's, at most PositionBytesMax bytes
	Body     []byte // what the writer gave and readers get

	// Erased says that the body was erased from the archive: it had ErasedBytes bytes, and is
	// empty now. Filler stands in its place in the payload and means nothing.
	Erased      bool
	ErasedBytes uint64
	Filler      [4]byte
}

// BodyBytes is the length of the body, or what it was before it was erased.
func (r Record) BodyBytes() uint64 {
	if r.Erased {
		return r.ErasedBytes
	}
	return uint64(len(r.Body))
}

// Size returns the length of the encoded record.
func (r Record) Size() int {
	if r.Erased {
		return recordHeaderBytes + len(r.Position) + erasedBodyBytes
	}
	return recordHeaderBytes + len(r.Position) + len(r.Body)
}

// Append appends the encoded record to dst. Position must not exceed PositionBytesMax.
func (r Record) Append(dst []byte) []byte {
	if len(r.Position) > PositionBytesMax {
		panic(fmt.Sprintf("catalog: engine position of %d bytes was not refused before", len(r.Position)))
	}
	dst = binary.LittleEndian.AppendUint16(dst, recordMagic)
	flags := byte(0)
	if r.Erased {
		flags = recordFlagErased
	}
	dst = append(dst, recordVersion, recordVersion, flags, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.Position)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Log))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Epoch))
	dst = binary.LittleEndian.AppendUint64(dst, r.Sequence)
	dst = append(dst, r.Position...)
	if r.Erased {
		return append(binary.LittleEndian.AppendUint64(dst, r.ErasedBytes), r.Filler[:]...)
	}
	return append(dst, r.Body...)
}

// DecodeRecord reads the payload of a log's entry. Position and Body point into it.
// Errors wrap logcore.ErrCorrupt or logcore.ErrUnsupportedVersion.
func DecodeRecord(payload []byte) (Record, error) {
	s := source{b: payload}
	if magic := s.u16(); s.bad || magic != recordMagic {
		return Record{}, corrupt("record magic %#04x in %d bytes", magic, len(payload))
	}
	version, min := s.u8(), s.u8()
	if err := checkVersion("record", uint16(version), uint16(min), recordVersion); err != nil {
		return Record{}, err
	}
	flags := s.u8()
	if err := unknownFlags("record", uint32(flags), recordFlagErased); err != nil {
		return Record{}, err
	}
	if reserved := s.u8(); reserved != 0 {
		return Record{}, corrupt("record: reserved byte %d", reserved)
	}
	positionBytes := int(s.u16())
	r := Record{Log: logcore.LogID(s.u64()), Epoch: logcore.Epoch(s.u64()), Sequence: s.u64()}
	r.Position = s.bytes(positionBytes)
	if s.bad || positionBytes > PositionBytesMax {
		return Record{}, corrupt("record of %d bytes with an engine position of %d", len(payload), positionBytes)
	}
	if r.Log == 0 || r.Epoch == 0 || r.Sequence == 0 {
		return Record{}, corrupt("record of log %d, epoch %d, sequence %d: none may be 0", r.Log, r.Epoch, r.Sequence)
	}
	if flags&recordFlagErased != 0 {
		r.Erased, r.ErasedBytes = true, s.u64()
		if s.bad || len(s.b) != len(r.Filler) {
			return Record{}, corrupt("an erased record of %d bytes", len(payload))
		}
		r.Filler = [4]byte(s.b)
		return r, nil
	}
	r.Body = s.b
	return r, nil
}

// LogOf returns the log that an entry belongs to, 0 when it belongs to none or its
// record can't be read.
func LogOf(e logcore.Entry) logcore.LogID {
	if !e.Kind.OfLog() {
		return 0
	}
	r, err := DecodeRecord(e.Payload)
	if err != nil {
		return 0
	}
	return r.Log
}
