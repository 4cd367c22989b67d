package s3test

import (
	"context"
	"time"
)

// TB is what StartTest needs of a *testing.T or *testing.B. It is spelled out so that
// programs that start gateways don't link the testing package.
type TB interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// startTimeout bounds StartTest: it may have to build the gateway.
const startTimeout = 8 * time.Minute

// StartTest is Start for a test or a benchmark: an empty Dir is a temporary one, an
// error fails the test, and the gateways are stopped when the test ends.
func StartTest(t TB, options Options) *Servers {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	s, err := Start(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop the S3 gateways: %v", err)
		}
	})
	return s
}
