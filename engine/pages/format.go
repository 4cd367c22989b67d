package pages

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// The layout, little-endian; see FORMAT.md.
const (
	// Magic begins every payload.
	Magic = "LCPG"

	formatVersion    = 1
	minReaderVersion = 1
	knownFlags       = 0

	headerBytes       = 16
	recordHeaderBytes = 20
	rangeHeaderBytes  = 4
)

// RecordBytesMax is the most that one record can take in a payload, its share of
// the payload's header included: an entry limit of at least this much can carry
// any record.
const RecordBytesMax = headerBytes + recordHeaderBytes + engine.PageSizeMax*(1+rangeHeaderBytes)

func appendHeader(dst []byte) []byte {
	dst = append(dst, Magic...)
	dst = binary.LittleEndian.AppendUint16(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint16(dst, minReaderVersion)
	dst = binary.LittleEndian.AppendUint32(dst, 0)  // flags
	return binary.LittleEndian.AppendUint32(dst, 0) // record count, set by setCount
}

func setCount(payload []byte, count uint32) { binary.LittleEndian.PutUint32(payload[12:], count) }

func bodyBytes(r engine.Record) int {
	switch r.Op {
	case engine.OpImage:
		return len(r.Data)
	case engine.OpDelta:
		return rangesBytes(r.Ranges)
	}
	return 0
}

// validate is Record.Validate for what the format can hold.
func validate(r *engine.Record) error {
	switch r.Op {
	case engine.OpImage, engine.OpDelta, engine.OpTruncate, engine.OpDrop:
	default:
		return fmt.Errorf("%w: pages: the format has no operation %d", logcore.ErrInvalid, r.Op)
	}
	if r.Space.Hi != 0 || r.Space.Lo > math.MaxUint32 {
		return fmt.Errorf("%w: pages: space %v: the format numbers spaces from 0 to %d", logcore.ErrInvalid, r.Space, uint32(math.MaxUint32))
	}
	return r.Validate()
}

func rangesBytes(ranges []engine.Range) int {
	n := 0
	for _, g := range ranges {
		n += rangeHeaderBytes + len(g.Data)
	}
	return n
}

func appendRecord(dst []byte, r engine.Record) []byte {
	dst = append(dst, byte(r.Op), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.Space.Lo))
	dst = binary.LittleEndian.AppendUint32(dst, r.Page)
	dst = binary.LittleEndian.AppendUint32(dst, r.PageSize)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(bodyBytes(r)))
	dst = append(dst, r.Data...)
	for _, g := range r.Ranges {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(g.Offset))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(g.Data)))
		dst = append(dst, g.Data...)
	}
	return dst
}

// decodeHeader returns the record count and the rest of the payload.
func decodeHeader(payload []byte) (uint32, []byte, error) {
	if len(payload) < headerBytes {
		return 0, nil, corrupt(0, "payload of %d bytes is shorter than its header", len(payload))
	}
	if string(payload[:4]) != Magic {
		return 0, nil, corrupt(0, "magic %q: want %q: not a pages payload", payload[:4], Magic)
	}
	version := binary.LittleEndian.Uint16(payload[4:])
	reader := binary.LittleEndian.Uint16(payload[6:])
	if version == 0 || reader == 0 || reader > version {
		return 0, nil, corrupt(4, "version %d for readers from %d on: impossible", version, reader)
	}
	if reader > formatVersion {
		return 0, nil, fmt.Errorf("%w: pages payload of version %d needs a reader of version %d, this build reads up to %d: upgrade",
			logcore.ErrUnsupportedVersion, version, reader, formatVersion)
	}
	if flags := binary.LittleEndian.Uint32(payload[8:]); flags&^knownFlags != 0 {
		return 0, nil, fmt.Errorf("%w: pages payload with unknown flags %#x: upgrade", logcore.ErrUnsupportedVersion, flags&^knownFlags)
	}
	return binary.LittleEndian.Uint32(payload[12:]), payload[headerBytes:], nil
}

// decodeRecord reads the record at the beginning of src and returns what follows.
// offset is src's place in the payload, for the error.
func decodeRecord(src []byte, offset int) (engine.Record, []byte, error) {
	var r engine.Record
	if len(src) < recordHeaderBytes {
		return r, nil, corrupt(offset, "%d bytes left, a record header takes %d", len(src), recordHeaderBytes)
	}
	if src[1]|src[2]|src[3] != 0 {
		return r, nil, corrupt(offset, "reserved bytes are not zero")
	}
	r.Op = engine.Op(src[0])
	r.Space = engine.SpaceOf(uint64(binary.LittleEndian.Uint32(src[4:])))
	r.Page = binary.LittleEndian.Uint32(src[8:])
	r.PageSize = binary.LittleEndian.Uint32(src[12:])
	length := binary.LittleEndian.Uint32(src[16:])
	rest := src[recordHeaderBytes:]
	if uint64(length) > uint64(len(rest)) {
		return r, nil, corrupt(offset, "body of %d bytes, %d are left", length, len(rest))
	}
	body, rest := rest[:length:length], rest[length:]
	switch {
	case r.Op == engine.OpImage:
		r.Data = body
	case r.Op == engine.OpDelta:
		var err error
		if r.Ranges, err = decodeRanges(body, offset+recordHeaderBytes); err != nil {
			return r, nil, err
		}
	case length != 0:
		return r, nil, corrupt(offset, "operation %d with a body of %d bytes", r.Op, length)
	}
	if err := validate(&r); err != nil {
		return r, nil, corrupt(offset, "%v", err)
	}
	return r, rest, nil
}

func decodeRanges(body []byte, offset int) ([]engine.Range, error) {
	count := 0
	for at := 0; at < len(body); count++ {
		if len(body)-at < rangeHeaderBytes {
			return nil, corrupt(offset+at, "%d bytes left, a range header takes %d", len(body)-at, rangeHeaderBytes)
		}
		at += rangeHeaderBytes + int(binary.LittleEndian.Uint16(body[at+2:]))
		if at > len(body) {
			return nil, corrupt(offset+at, "range leaves the record")
		}
	}
	ranges := make([]engine.Range, 0, count)
	for len(body) > 0 {
		n := rangeHeaderBytes + int(binary.LittleEndian.Uint16(body[2:]))
		ranges = append(ranges, engine.Range{Offset: uint32(binary.LittleEndian.Uint16(body)), Data: body[rangeHeaderBytes:n:n]})
		body = body[n:]
	}
	return ranges, nil
}

func corrupt(offset int, format string, args ...any) error {
	return &logcore.CorruptionError{Place: "log entry", Object: "pages payload", Offset: int64(offset), Reason: fmt.Sprintf(format, args...)}
}
