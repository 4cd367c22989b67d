package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"

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

// LogAppend is what one message has for one channel.
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

// AppendsReader decodes AppendLogsRequests, into memory that it uses again. It is not safe for concurrent use.
type AppendsReader struct {
	appends []LogAppend
	entries []Entry // of all of them
}

// Read decodes a message: what it has for each channel, valid until the next is read. The error, when the bytes are no such
// message, wraps logcore.ErrInvalid.
func (r *AppendsReader) Read(b []byte) ([]LogAppend, error) {
	clear(r.entries) // lets go of the message before
	r.appends, r.entries = r.appends[:0], r.entries[:0]
	for len(b) > 0 {
		f, rest, ok := NextField(b)
		if !ok {
			return nil, errMalformed
		}
		if b = rest; f.Tag != tagAppends {
			continue
		}
		r.appends = append(r.appends, LogAppend{})
		from := len(r.entries)
		a := &r.appends[len(r.appends)-1]
		if !r.decode(a, f.Bytes) {
			return nil, errMalformed
		}
		a.Entries = r.entries[from:]
	}
	// The list may have moved while it grew.
	at := 0
	for i := range r.appends {
		n := len(r.appends[i].Entries)
		r.appends[i].Entries = r.entries[at : at+n : at+n]
		at += n
	}
	return r.appends, nil
}

func (r *AppendsReader) decode(a *LogAppend, b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := NextField(b)
		if !ok {
			return false
		}
		b = rest
		switch f.Tag {
		case tagChannel:
			a.Channel = uint32(f.V)
		case tagLog:
			a.Log = string(f.Bytes)
		case tagEpoch:
			a.Epoch = f.V
		case tagIncarnation:
			a.Incarnation = f.V
		case tagEntries:
			r.entries = append(r.entries, Entry{})
			if !r.entries[len(r.entries)-1].decode(f.Bytes) {
				return false
			}
		}
	}
	return true
}

func (e *Entry) decode(b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := NextField(b)
		if !ok {
			return false
		}
		b = rest
		switch f.Tag {
		case tagSequence:
			e.Sequence = f.V
		case tagKind:
			e.Kind = int32(f.V)
		case tagTx:
			e.Tx = f.Bytes
		case tagPayload:
			e.Payload = f.Bytes
		case tagCRC:
			e.CRC32C = uint32(f.V)
		case tagPosition:
			e.Position = f.Bytes
		}
	}
	return true
}
