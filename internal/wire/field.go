package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field is one field of an encoded message.
type Field struct {
	Tag   uint64 // number << 3 | wire type
	V     uint64 // of a number
	Bytes []byte // of bytes, strings and messages; points into the message
}

// NextField reads the first field of b and returns what is behind it; ok is false when b does not begin with one. A group, which
// no message here has, is skipped.
func NextField(b []byte) (f Field, rest []byte, ok bool) {
	n := 1
	if len(b) > 0 && b[0] < 0x80 {
		f.Tag = uint64(b[0])
	} else if f.Tag, n = protowire.ConsumeVarint(b); n < 0 {
		return f, nil, false
	}
	if f.Tag>>3 == 0 || f.Tag>>3 > uint64(protowire.MaxValidNumber) {
		return f, nil, false
	}
	b = b[n:]
	switch protowire.Type(f.Tag & 7) {
	case protowire.VarintType:
		f.V, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) { // the usual one, short
			n = 1 + int(b[0])
			f.Bytes = b[1:n:n]
			break
		}
		f.Bytes, n = protowire.ConsumeBytes(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.V = uint64(v)
	case protowire.Fixed64Type:
		f.V, n = protowire.ConsumeFixed64(b)
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(f.Tag>>3), protowire.Type(f.Tag&7), b)
	}
	if n < 0 {
		return f, nil, false
	}
	return f, b[n:], true
}
