package exit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/tiering/bucket"
)

func TestOf(t *testing.T) {
	remote := func(err error) error { return wire.FromStatus(wire.ToStatus(err, "l")) }
	for name, tc := range map[string]struct {
		err  error
		want Code
	}{
		"nil":               {nil, OK},
		"anything":          {errors.New("x"), Failure},
		"usage":             {Usagef("unknown %s", "flag"), Usage},
		"usage wins":        {With(Usage, logcore.ErrCorrupt), Usage},
		"configuration":     {fmt.Errorf("x: %w", &config.Error{}), Usage},
		"refused":           {wire.FromStatus(status.Error(codes.Unavailable, "connection refused")), Connect},
		"log not found":     {remote(logcore.ErrLogNotFound), Server},
		"poisoned":          {remote(logcore.ErrPoisoned), Server},
		"internal":          {remote(errors.New("x")), Server},
		"corrupt here":      {&logcore.CorruptionError{Place: "p", Object: "o"}, Integrity},
		"corrupt there":     {remote(&logcore.CorruptionError{Place: "p", Object: "o"}), Integrity},
		"future":            {remote(&logcore.LagError{Asked: 9, Available: 3, Waited: time.Second}), Timeout},
		"deadline":          {context.DeadlineExceeded, Timeout},
		"remote deadline":   {remote(context.DeadlineExceeded), Timeout},
		"bad credentials":   {fmt.Errorf("target a1: %w", bucket.ErrDenied), Permission},
		"file permission":   {&fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}, Permission},
		"remote permission": {wire.FromStatus(status.Error(codes.PermissionDenied, "x")), Permission},
		"unhealthy":         {With(Unhealthy, errors.New("x")), Unhealthy},
	} {
		if got := Of(tc.err); got != tc.want {
			t.Errorf("%s: Of(%v) = %d, want %d", name, tc.err, got, tc.want)
		}
	}
}
