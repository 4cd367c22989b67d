// Package wire maps LogCore's errors to gRPC statuses with an ErrorDetail and back,
// so that errors.Is and errors.As mean the same on both sides of a connection.
package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// RetryAfter is what an overloaded server asks its clients to wait.
const RetryAfter = 20 * time.Millisecond

// mapping pairs each sentinel with its wire form. The order matters only where one
// error wraps two sentinels: the first match is sent.
var mapping = []struct {
	err    error
	code   codes.Code
	reason logcorev1.ErrorReason
}{
	{logcore.ErrFenced, codes.FailedPrecondition, logcorev1.ErrorReason_ERROR_REASON_FENCED},
	{logcore.ErrWriterActive, codes.Aborted, logcorev1.ErrorReason_ERROR_REASON_WRITER_ACTIVE},
	{logcore.ErrNotLeader, codes.Unavailable, logcorev1.ErrorReason_ERROR_REASON_NOT_LEADER},
	{logcore.ErrMoved, codes.Unavailable, logcorev1.ErrorReason_ERROR_REASON_MOVED},
	{logcore.ErrOverloaded, codes.ResourceExhausted, logcorev1.ErrorReason_ERROR_REASON_OVERLOADED},
	{logcore.ErrTooLarge, codes.InvalidArgument, logcorev1.ErrorReason_ERROR_REASON_TOO_LARGE},
	{logcore.ErrLogNotFound, codes.NotFound, logcorev1.ErrorReason_ERROR_REASON_LOG_NOT_FOUND},
	{logcore.ErrLogExists, codes.AlreadyExists, logcorev1.ErrorReason_ERROR_REASON_LOG_EXISTS},
	{logcore.ErrCorrupt, codes.DataLoss, logcorev1.ErrorReason_ERROR_REASON_CORRUPT},
	{logcore.ErrLSNInFuture, codes.DeadlineExceeded, logcorev1.ErrorReason_ERROR_REASON_LSN_IN_FUTURE},
	{logcore.ErrTrimmed, codes.OutOfRange, logcorev1.ErrorReason_ERROR_REASON_LSN_TRIMMED},
	{logcore.ErrSequenceGap, codes.FailedPrecondition, logcorev1.ErrorReason_ERROR_REASON_SEQUENCE_GAP},
	{logcore.ErrSequenceReused, codes.FailedPrecondition, logcorev1.ErrorReason_ERROR_REASON_SEQUENCE_REUSED},
	{logcore.ErrPayloadFormat, codes.FailedPrecondition, logcorev1.ErrorReason_ERROR_REASON_PAYLOAD_FORMAT},
	{logcore.ErrDiskFull, codes.ResourceExhausted, logcorev1.ErrorReason_ERROR_REASON_DISK_FULL},
	{logcore.ErrPoisoned, codes.Unavailable, logcorev1.ErrorReason_ERROR_REASON_POISONED},
	{logcore.ErrInvalid, codes.InvalidArgument, logcorev1.ErrorReason_ERROR_REASON_INVALID},
	{logcore.ErrWrongPageServer, codes.FailedPrecondition, logcorev1.ErrorReason_ERROR_REASON_WRONG_PAGE_SERVER},
	{logcore.ErrUnsupportedVersion, codes.Unimplemented, logcorev1.ErrorReason_ERROR_REASON_UNSUPPORTED_VERSION},
}

// ErrNotOffered: the process at the address does not offer the service, or not that
// method of it.
var ErrNotOffered = errors.New("logcore: this service is not offered at the address")

// ToStatus returns err as a gRPC status error that concerns the named log, empty for
// none. A nil err stays nil; an error that already is a status is passed through;
// an error that is none of LogCore's becomes INTERNAL.
func ToStatus(err error, log string) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	for _, m := range mapping {
		if errors.Is(err, m.err) {
			return detailed(err, m.code, &logcorev1.ErrorDetail{Reason: m.reason, Log: log})
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, logcore.ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

func detailed(err error, code codes.Code, d *logcorev1.ErrorDetail) error {
	var lag *logcore.LagError
	if errors.As(err, &lag) {
		d.Lsn, d.AvailableLsn = uint64(lag.Asked), uint64(lag.Available)
	}
	var corrupt *logcore.CorruptionError
	if errors.As(err, &corrupt) {
		d.Lsn, d.Place = uint64(corrupt.LSN), fmt.Sprintf("%s: %s@%d", corrupt.Place, corrupt.Object, corrupt.Offset)
	}
	var elsewhere *logcore.NotLeaderError
	if errors.As(err, &elsewhere) {
		d.LeaderHint, d.Shard = elsewhere.Address, uint32(elsewhere.Shard)
	}
	var moved *logcore.MovedError
	if errors.As(err, &moved) {
		d.LeaderHint, d.Shard = moved.Address, uint32(moved.Shard)
	}
	if d.Reason == logcorev1.ErrorReason_ERROR_REASON_OVERLOADED {
		d.RetryAfterMs = uint32(RetryAfter.Milliseconds())
	}
	st, derr := status.New(code, err.Error()).WithDetails(d)
	if derr != nil {
		panic("wire: ErrorDetail can't be attached: " + derr.Error())
	}
	return st.Err()
}

// RemoteError is an error that a server raised. It unwraps to the logcore sentinel
// its reason stands for, and to the *logcore.LagError where there is one.
type RemoteError struct {
	Detail  *logcorev1.ErrorDetail // nil when the server sent none
	Code    codes.Code
	Message string
	cause   error
}

// Error returns the server's message.
func (e *RemoteError) Error() string { return e.Message }

// Unwrap returns the sentinel or the LagError.
func (e *RemoteError) Unwrap() error { return e.cause }

// FromStatus returns the error behind a gRPC status. A nil err stays nil, an error
// that is no status is returned as it is.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	var detail *logcorev1.ErrorDetail
	for _, d := range st.Details() {
		if d, ok := d.(*logcorev1.ErrorDetail); ok {
			detail = d
		}
	}
	return remoteError(st.Code(), st.Message(), detail)
}

// remoteError puts an error together from what a server sent; detail may be nil.
func remoteError(code codes.Code, message string, detail *logcorev1.ErrorDetail) *RemoteError {
	remote := &RemoteError{Code: code, Message: message, Detail: detail}
	if detail != nil {
		remote.cause = sentinel(detail)
	}
	if remote.cause == nil {
		remote.cause = sentinelOfCode(code)
	}
	if remote.cause == ErrNotOffered {
		remote.Message = fmt.Sprintf("%v (%s): is it the address of another LogCore process, or of an older one?", ErrNotOffered, message)
	}
	return remote
}

func sentinel(d *logcorev1.ErrorDetail) error {
	if d.Reason == logcorev1.ErrorReason_ERROR_REASON_LSN_IN_FUTURE {
		return &logcore.LagError{Asked: logcore.LSN(d.Lsn), Available: logcore.LSN(d.AvailableLsn)}
	}
	for _, m := range mapping {
		if m.reason == d.Reason {
			return m.err
		}
	}
	return nil
}

func sentinelOfCode(code codes.Code) error {
	switch code {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Unimplemented: // by gRPC itself: a newer format comes with a detail
		return ErrNotOffered
	}
	return nil
}
