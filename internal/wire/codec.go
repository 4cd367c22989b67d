package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// Codec is gRPC's protobuf codec, which also carries messages that their users encode and
// decode themselves, as Raw. The bytes on the wire are the same protobuf, so either side
// may be a program that knows nothing of this.
//
// Answers with pages go out without a copy of the pages.
//
// The append stream needs it: with generated code each entry is several objects and is copied
// twice on the way in, which was most of what an append cost.
type Codec struct{}

// Name implements encoding.CodecV2.
func (Codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2. A *Raw gives its bytes away.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*logcorev1.GetPagesResponse); ok && len(m.ProtoReflect().GetUnknown()) == 0 {
		return marshalPages(m), nil
	}
	r, ok := v.(*Raw)
	if !ok {
		return encoding.GetCodecV2(proto.Name).Marshal(v)
	}
	if r.buf == nil {
		return nil, fmt.Errorf("wire: a message was sent twice")
	}
	b := mem.NewBuffer(r.buf, Buffers)
	r.buf = nil
	return mem.BufferSlice{b}, nil
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*Raw)
	if !ok {
		return encoding.GetCodecV2(proto.Name).Unmarshal(data, v)
	}
	r.Free()
	if len(data) == 1 {
		data[0].Ref()
		r.received, r.bytes = data[0], data[0].ReadOnlyData()
		return nil
	}
	n := data.Len()
	if cap(r.joined) < n {
		r.joined = make([]byte, n+n/4)
	}
	r.bytes = r.joined[:n]
	data.CopyTo(r.bytes)
	return nil
}

// Raw is one message as bytes. The zero value is ready to receive into; to send one, fill
// what New returns.
type Raw struct {
	buf      *[]byte    // being made
	bytes    []byte     // received: of received, or of joined
	received mem.Buffer // nil when the message came in several
	joined   []byte     // is used again and again
}

// New returns the empty message, with room for so many bytes.
func (r *Raw) New(bytes int) []byte {
	r.buf = Buffers.Get(bytes)
	return (*r.buf)[:0]
}

// Set makes b, which grew from what New returned, the message to be sent. The memory is
// gRPC's from the sending on.
func (r *Raw) Set(b []byte) { *r.buf = b }

// Discard returns the memory that New took, when nothing is sent after all.
func (r *Raw) Discard() {
	Buffers.Put(r.buf)
	r.buf = nil
}

// Bytes is the message received, valid until Free or the next one.
func (r *Raw) Bytes() []byte { return r.bytes }

// joinedBytesMax is how much memory a Raw keeps for the next message.
const joinedBytesMax = 1 << 20

// Free lets go of the message received.
func (r *Raw) Free() {
	r.bytes = nil
	if r.received != nil {
		r.received.Free()
		r.received = nil
	}
	if cap(r.joined) > joinedBytesMax {
		r.joined = nil
	}
}
