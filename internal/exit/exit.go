// Package exit maps errors to the exit codes of every LogCore command, in one place.
package exit

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/tiering/bucket"
)

// Code is the exit status of a process.
type Code int

// The exit codes, which scripts rely on: a number never changes its meaning.
const (
	OK         Code = 0
	Failure    Code = 1 // anything that has no code of its own
	Usage      Code = 2 // unknown flag, argument, command or configuration key; a bad value
	Connect    Code = 3 // the service can't be reached
	Server     Code = 4 // the service answered with an error
	Unhealthy  Code = 5 // the service answered, and says that it is not well
	Integrity  Code = 6 // bytes are not what was written
	Timeout    Code = 7 // a deadline passed, or an LSN did not come in time
	Permission Code = 8 // credentials refused, or no right to read or write
)

// coded is an error whose code is known where it occurs.
type coded struct {
	code Code
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// With gives err a code that no other rule overrides. A nil err stays nil.
func With(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code: code, err: err}
}

// Usagef returns an error that exits with Usage.
func Usagef(format string, args ...any) error { return With(Usage, fmt.Errorf(format, args...)) }

// Of returns the code of err.
func Of(err error) Code {
	if err == nil {
		return OK
	}
	var c *coded
	if errors.As(err, &c) {
		return c.code
	}
	var cfg *config.Error
	if errors.As(err, &cfg) {
		return Usage
	}
	switch {
	case errors.Is(err, logcore.ErrCorrupt):
		return Integrity
	case errors.Is(err, logcore.ErrLSNInFuture):
		return Timeout
	case errors.Is(err, bucket.ErrDenied):
		return Permission
	case errors.Is(err, client.ErrUnavailable):
		return Connect
	case errors.Is(err, client.ErrInsecure):
		return Usage
	}
	// Before the context's own errors: an unreachable service may show as a deadline.
	var remote *wire.RemoteError
	if errors.As(err, &remote) {
		return ofRemote(remote)
	}
	if st, ok := status.FromError(err); ok {
		return ofStatus(st.Code())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, os.ErrPermission):
		return Permission
	}
	return Failure
}

// ofRemote tells a server that answers from one that can't be reached: LogCore's own
// errors carry a detail, and only gRPC itself says UNAVAILABLE without one.
func ofRemote(e *wire.RemoteError) Code {
	if e.Detail != nil {
		return Server
	}
	return ofStatus(e.Code)
}

func ofStatus(code codes.Code) Code {
	switch code {
	case codes.Unavailable:
		return Connect
	case codes.DeadlineExceeded:
		return Timeout
	case codes.PermissionDenied, codes.Unauthenticated:
		return Permission
	case codes.DataLoss:
		return Integrity
	}
	return Server
}
