package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/logcore/logcore"
)

// The messages of AppendLogs, encoded and decoded by hand: see Codec. The field numbers
// are those of proto/logcore/v1/log.proto, and a test holds the two against each other.

// Entry is a NewEntry. A decoded one points into the message.
type Entry struct {
	Sequence uint64
	Kind     int32 // as in the message: unchecked
	Tx       []byte
	Payload  []byte
	CRC32C   uint32 // of Payload
	Position []byte
}

// LogAppend is what one message has for one channel. A decoded one, and its list of
// entries, is valid until the next is visited.
type LogAppend struct {
	Channel     uint32
	Log         string
	Epoch       uint64
	Incarnation uint64
	Entries     []Entry
}

// Field tags: number << 3 | wire type.
const (
	tagAppends = 1<<3 | 2 // AppendLogsRequest and AppendLogsResponse

	tagChannel     = 1 << 3 // LogAppend and LogAppended
	tagLog         = 2<<3 | 2
	tagEpoch       = 3 << 3
	tagIncarnation = 4<<3 | 1
	tagEntries     = 5<<3 | 2

	tagSequence = 1 << 3 // NewEntry
	tagKind     = 2 << 3
	tagTx       = 3<<3 | 2
	tagPayload  = 4<<3 | 2
	tagCRC      = 5<<3 | 5
	tagPosition = 6<<3 | 2
)

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func bytesSize(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + varintSize(uint64(n)) + n
}

func numberSize(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + varintSize(v)
}

func appendNumber(b []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, tag), v)
}

func appendBytes(b []byte, tag byte, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

// inner is the length of the entry's own encoding.
func (e *Entry) inner() int {
	n := numberSize(e.Sequence) + numberSize(uint64(e.Kind)) + bytesSize(len(e.Tx)) + bytesSize(len(e.Payload)) + bytesSize(len(e.Position))
	if e.CRC32C != 0 {
		n += 5
	}
	return n
}

// Size is what the entry takes in a LogAppend.
func (e *Entry) Size() int {
	n := e.inner()
	return 1 + varintSize(uint64(n)) + n
}

func (e *Entry) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, tagEntries), uint64(e.inner()))
	b = appendNumber(b, tagSequence, e.Sequence)
	b = appendNumber(b, tagKind, uint64(e.Kind))
	b = appendBytes(b, tagTx, e.Tx)
	b = appendBytes(b, tagPayload, e.Payload)
	if e.CRC32C != 0 {
		b = binary.LittleEndian.AppendUint32(append(b, tagCRC), e.CRC32C)
	}
	return appendBytes(b, tagPosition, e.Position)
}

// head is the length of everything but the entries.
func (a *LogAppend) head() int {
	n := numberSize(uint64(a.Channel)) + bytesSize(len(a.Log)) + numberSize(a.Epoch)
	if a.Incarnation != 0 {
		n += 9
	}
	return n
}

// BeginAppend appends the beginning of a LogAppend to an AppendLogsRequest: all but the
// entries, which must follow, by AppendEntry, and take entriesBytes: the sum of their Sizes.
func BeginAppend(b []byte, a *LogAppend, entriesBytes int) []byte {
	b = binary.AppendUvarint(append(b, tagAppends), uint64(a.head()+entriesBytes))
	b = appendNumber(b, tagChannel, uint64(a.Channel))
	if a.Log != "" {
		b = binary.AppendUvarint(append(b, tagLog), uint64(len(a.Log)))
		b = append(b, a.Log...)
	}
	b = appendNumber(b, tagEpoch, a.Epoch)
	if a.Incarnation != 0 {
		b = binary.LittleEndian.AppendUint64(append(b, tagIncarnation), a.Incarnation)
	}
	return b
}

// AppendEntry appends an entry to the LogAppend that was begun last.
func AppendEntry(b []byte, e *Entry) []byte { return e.append(b) }

// errMalformed: bytes that are not the message they should be.
var errMalformed = fmt.Errorf("%w: malformed message", logcore.ErrInvalid)

// AppendsReader decodes AppendLogsRequests. It is not safe for concurrent use.
type AppendsReader struct{ a LogAppend }

// Read decodes a message and visits what it has for each channel. It ends with visit's
// error, or with one that wraps logcore.ErrInvalid when the bytes are no such message.
func (r *AppendsReader) Read(b []byte, visit func(*LogAppend) error) error {
	return fields(b, func(tag, _ uint64, v []byte) error {
		if tag != tagAppends {
			return nil
		}
		r.a = LogAppend{Entries: r.a.Entries[:0]}
		if err := r.a.decode(v); err != nil {
			return err
		}
		return visit(&r.a)
	})
}

// fields visits the fields of a message, each by its tag, with its number or its bytes.
func fields(b []byte, visit func(tag uint64, v uint64, bytes []byte) error) error {
	for len(b) > 0 {
		tag, n := protowire.ConsumeVarint(b)
		if n < 0 || tag>>3 == 0 || tag>>3 > uint64(protowire.MaxValidNumber) {
			return errMalformed
		}
		b = b[n:]
		var v uint64
		var bytes []byte
		switch protowire.Type(tag & 7) {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v32 uint32
			v32, n = protowire.ConsumeFixed32(b)
			v = uint64(v32)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default: // a group, which no message here has: skipped
			n = protowire.ConsumeFieldValue(protowire.Number(tag>>3), protowire.Type(tag&7), b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := visit(tag, v, bytes); err != nil {
			return err
		}
	}
	return nil
}

func (a *LogAppend) decode(b []byte) error {
	return fields(b, func(tag, v uint64, bytes []byte) error {
		switch tag {
		case tagChannel:
			a.Channel = uint32(v)
		case tagLog:
			a.Log = string(bytes)
		case tagEpoch:
			a.Epoch = v
		case tagIncarnation:
			a.Incarnation = v
		case tagEntries:
			a.Entries = append(a.Entries, Entry{})
			return a.Entries[len(a.Entries)-1].decode(bytes)
		}
		return nil
	})
}

func (e *Entry) decode(b []byte) error {
	return fields(b, func(tag, v uint64, bytes []byte) error {
		switch tag {
		case tagSequence:
			e.Sequence = v
		case tagKind:
			e.Kind = int32(v)
		case tagTx:
			e.Tx = bytes
		case tagPayload:
			e.Payload = bytes
		case tagCRC:
			e.CRC32C = uint32(v)
		case tagPosition:
			e.Position = bytes
		}
		return nil
	})
}
