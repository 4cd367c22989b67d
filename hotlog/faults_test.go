package hotlog

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// The tests named TestF<n> are the hot log's part of the fault model: docs/design/faults-hotlog.md.
// Each does a portion of its work by default and all of it when LOGCORE_FAULTS=full
// ("make crash"); it prints its seed, which LOGCORE_SEED sets, and counts what it did: one
// that did less than it was to do fails.

// figure is how much a fault test does.
func figure(t *testing.T, portion, full int) int {
	t.Helper()
	switch mode := os.Getenv("LOGCORE_FAULTS"); mode {
	case "":
		return portion
	case "full":
		return full
	default:
		t.Fatalf("LOGCORE_FAULTS=%q: want full or nothing", mode)
		return 0
	}
}

// faultSeed is the seed to begin with. Without LOGCORE_SEED it is 1 for the portion, which
// so finds the same every time, and another one each time for the full figure.
func faultSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("LOGCORE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 32); err != nil {
			t.Fatalf("LOGCORE_SEED=%q: want a number below 2^32", s)
		}
	} else if os.Getenv("LOGCORE_FAULTS") != "" {
		seed = uint64(time.Now().UnixNano()) % (1 << 31)
	}
	t.Logf("LOGCORE_SEED=%d", seed)
	return seed
}

// void fails a run that did less than it was to do.
func void(t *testing.T, what string, done, want int) {
	t.Helper()
	if done < want {
		t.Fatalf("void: %d %s, want %d", done, what, want)
	}
}
