package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// LogAppended is what one message says of one channel: places, or the error that ended it.
// A decoded one, with its lists, is valid until the next is visited.
type LogAppended struct {
	Channel uint32
	Through uint64
	LSNs    []uint64
	Times   []uint64
	PauseMs uint32 // advised to the writer; 0: none
	Err     error  // a *RemoteError when decoded
}

const (
	tagThrough = 2 << 3 // LogAppended
	tagLSNs    = 3<<3 | 2
	tagLSN     = 3 << 3 // unpacked, as protobuf allows
	tagTimes   = 4<<3 | 2
	tagTime    = 4 << 3
	tagCode    = 5 << 3
	tagMessage = 6<<3 | 2
	tagDetail  = 7<<3 | 2
	tagPause   = 8 << 3
)

func packedSize(list []uint64) (n int) {
	for _, v := range list {
		n += varintSize(v)
	}
	return n
}

// AppendAppended appends a LogAppended with places to an AppendLogsResponse.
func AppendAppended(b []byte, a *LogAppended) []byte {
	lsns, times := packedSize(a.LSNs), packedSize(a.Times)
	n := numberSize(uint64(a.Channel)) + numberSize(a.Through) + bytesSize(lsns) + bytesSize(times) + numberSize(uint64(a.PauseMs))
	b = binary.AppendUvarint(append(b, tagAppends), uint64(n))
	b = appendNumber(b, tagChannel, uint64(a.Channel))
	b = appendNumber(b, tagThrough, a.Through)
	b = appendPacked(b, tagLSNs, a.LSNs, lsns)
	b = appendPacked(b, tagTimes, a.Times, times)
	return appendNumber(b, tagPause, uint64(a.PauseMs))
}

func appendPacked(b []byte, tag byte, list []uint64, size int) []byte {
	if size == 0 {
		return b
	}
	b = binary.AppendUvarint(append(b, tag), uint64(size))
	for _, v := range list {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// AppendRefused appends a LogAppended that ends a channel with err, about the named log.
func AppendRefused(b []byte, channel uint32, err error, log string) []byte {
	st, _ := status.FromError(ToStatus(err, log))
	var detail []byte
	for _, d := range st.Details() {
		if d, ok := d.(*logcorev1.ErrorDetail); ok {
			detail, _ = proto.Marshal(d) // of scalars: it can't fail
		}
	}
	code := uint64(st.Code())
	message := []byte(st.Message())
	n := numberSize(uint64(channel)) + numberSize(code) + bytesSize(len(message)) + bytesSize(len(detail))
	b = binary.AppendUvarint(append(b, tagAppends), uint64(n))
	b = appendNumber(b, tagChannel, uint64(channel))
	b = appendNumber(b, tagCode, code)
	b = appendBytes(b, tagMessage, message)
	return appendBytes(b, tagDetail, detail)
}

// AppendedReader decodes AppendLogsResponses. It is not safe for concurrent use.
type AppendedReader struct{ a LogAppended }

// Read decodes a message and visits what it says of each channel. It ends with visit's
// error, or with one that wraps logcore.ErrInvalid when the bytes are no such message.
func (r *AppendedReader) Read(b []byte, visit func(*LogAppended) error) error {
	for len(b) > 0 {
		f, rest, ok := NextField(b)
		if !ok {
			return errMalformed
		}
		if b = rest; f.Tag != tagAppends {
			continue
		}
		r.a = LogAppended{LSNs: r.a.LSNs[:0], Times: r.a.Times[:0]}
		if err := r.a.decode(f.Bytes); err != nil {
			return err
		}
		if err := visit(&r.a); err != nil {
			return err
		}
	}
	return nil
}

func (a *LogAppended) decode(b []byte) (err error) {
	var code uint32
	var message string
	var detail *logcorev1.ErrorDetail
	for len(b) > 0 && err == nil {
		f, rest, ok := NextField(b)
		if !ok {
			return errMalformed
		}
		b = rest
		switch f.Tag {
		case tagChannel:
			a.Channel = uint32(f.V)
		case tagThrough:
			a.Through = f.V
		case tagLSN:
			a.LSNs = append(a.LSNs, f.V)
		case tagLSNs:
			a.LSNs, err = decodePacked(a.LSNs, f.Bytes)
		case tagTime:
			a.Times = append(a.Times, f.V)
		case tagTimes:
			a.Times, err = decodePacked(a.Times, f.Bytes)
		case tagPause:
			a.PauseMs = uint32(f.V)
		case tagCode:
			code = uint32(f.V)
		case tagMessage:
			message = string(f.Bytes)
		case tagDetail:
			if detail == nil {
				detail = &logcorev1.ErrorDetail{}
			}
			if (proto.UnmarshalOptions{Merge: true}).Unmarshal(f.Bytes, detail) != nil {
				err = errMalformed
			}
		}
	}
	switch {
	case err != nil:
		return err
	case len(a.LSNs) != len(a.Times):
		return fmt.Errorf("%w: %d LSNs with %d times", errMalformed, len(a.LSNs), len(a.Times))
	case code != 0:
		a.Err = remoteError(codes.Code(code), message, detail)
	}
	return nil
}

func decodePacked(list []uint64, bytes []byte) ([]uint64, error) {
	for len(bytes) > 0 {
		v, n := protowire.ConsumeVarint(bytes)
		if n < 0 {
			return list, errMalformed
		}
		list, bytes = append(list, v), bytes[n:]
	}
	return list, nil
}

// ShardHint returns the shard that a NOT_LEADER or MOVED error says the log is in; false when it is no such error.
func ShardHint(err error) (shard uint32, ok bool) {
	var r *RemoteError
	if errors.As(err, &r) && r.Detail != nil {
		reason := r.Detail.Reason
		return r.Detail.Shard, reason == logcorev1.ErrorReason_ERROR_REASON_NOT_LEADER || reason == logcorev1.ErrorReason_ERROR_REASON_MOVED
	}
	return 0, false
}

// LeaderHint returns the address of the leader that a NOT_LEADER or MOVED error names, empty when it
// names none.
func LeaderHint(err error) string {
	var r *RemoteError
	if errors.As(err, &r) {
		return r.Detail.GetLeaderHint()
	}
	return ""
}
