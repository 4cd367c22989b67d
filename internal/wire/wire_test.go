package wire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

var sentinels = []error{
	logcore.ErrFenced, logcore.ErrWriterActive, logcore.ErrNotLeader, logcore.ErrOverloaded, logcore.ErrTooLarge,
	logcore.ErrLogNotFound, logcore.ErrLogExists, logcore.ErrCorrupt, logcore.ErrLSNInFuture, logcore.ErrTrimmed,
	logcore.ErrSequenceGap, logcore.ErrDiskFull, logcore.ErrPoisoned, logcore.ErrInvalid, logcore.ErrUnsupportedVersion,
	logcore.ErrSequenceReused, logcore.ErrPayloadFormat, logcore.ErrWrongPageServer, logcore.ErrMoved, context.Canceled, context.DeadlineExceeded,
}

// What a server returns is what a client can branch on: exactly that sentinel.
func TestSentinelsCrossTheWire(t *testing.T) {
	for _, want := range sentinels {
		st := wire.ToStatus(fmt.Errorf("append to %q: %w", "orders", want), "orders")
		got := wire.FromStatus(st)
		if !strings.Contains(got.Error(), "orders") {
			t.Errorf("%v: message lost: %v", want, got)
		}
		for _, other := range sentinels {
			if errors.Is(got, other) != (other == want) {
				t.Errorf("%v arrives as: is %v = %v", want, other, errors.Is(got, other))
			}
		}
	}
}

func TestDetailsCrossTheWire(t *testing.T) {
	lag := &logcore.LagError{Asked: 100, Available: 60}
	var gotLag *logcore.LagError
	if err := wire.FromStatus(wire.ToStatus(lag, "orders")); !errors.As(err, &gotLag) || gotLag.Asked != 100 || gotLag.Available != 60 {
		t.Errorf("lag arrives as %v", err)
	}
	corrupt := &logcore.CorruptionError{Place: "/data", Object: "seg", Offset: 12, LSN: 9}
	var remote *wire.RemoteError
	err := wire.FromStatus(wire.ToStatus(corrupt, "orders"))
	if !errors.As(err, &remote) || remote.Code != codes.DataLoss || remote.Detail.GetLsn() != 9 || remote.Detail.GetPlace() != "/data: seg@12" || remote.Detail.GetLog() != "orders" {
		t.Errorf("corruption arrives as %v", err)
	}
	elsewhere := fmt.Errorf("append: %w", &logcore.NotLeaderError{Shard: 1, Leader: 7, Address: "host:1"})
	if err := wire.FromStatus(wire.ToStatus(elsewhere, "orders")); !errors.Is(err, logcore.ErrNotLeader) || wire.LeaderHint(err) != "host:1" {
		t.Errorf("not leader arrives as %v, with hint %q", err, wire.LeaderHint(err))
	}
	err = wire.FromStatus(wire.ToStatus(logcore.ErrOverloaded, ""))
	if !errors.As(err, &remote) || remote.Detail.GetRetryAfterMs() == 0 {
		t.Errorf("overloaded arrives without retry_after: %v", err)
	}
}

func TestEveryReasonHasAMapping(t *testing.T) {
	got := map[logcorev1.ErrorReason]bool{}
	for _, s := range sentinels {
		var remote *wire.RemoteError
		if errors.As(wire.FromStatus(wire.ToStatus(s, "")), &remote) && remote.Detail != nil {
			got[remote.Detail.Reason] = true
		}
	}
	for number, name := range logcorev1.ErrorReason_name {
		if number != 0 && !got[logcorev1.ErrorReason(number)] {
			t.Errorf("%s is raised by no sentinel", name)
		}
	}
}

func TestOtherErrorsPassThrough(t *testing.T) {
	if wire.ToStatus(nil, "") != nil || wire.FromStatus(nil) != nil {
		t.Error("nil must stay nil")
	}
	st := status.Error(codes.Unavailable, "connection refused")
	if got := wire.ToStatus(st, "x"); got != st {
		t.Errorf("a status was changed: %v", got)
	}
	plain := errors.New("plain")
	if wire.FromStatus(plain) != plain {
		t.Error("an error that is no status was changed")
	}
	if got := status.Code(wire.ToStatus(plain, "")); got != codes.Internal {
		t.Errorf("a foreign error became %v", got)
	}
}

// What gRPC says of a service that nobody registered is no word about formats.
func TestServiceNotOffered(t *testing.T) {
	err := wire.FromStatus(status.Error(codes.Unimplemented, "unknown service logcore.v1.PageService"))
	if !errors.Is(err, wire.ErrNotOffered) || errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("arrives as %v", err)
	}
	for _, want := range []string{"not offered at the address", "logcore.v1.PageService"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}
