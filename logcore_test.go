package logcore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

func TestParseLSNReadsBackString(t *testing.T) {
	for _, want := range []logcore.LSN{0, 1, 1<<64 - 1} {
		if got, err := logcore.ParseLSN(want.String()); err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %d, %v", want.String(), got, err)
		}
	}
	for _, bad := range []string{"", "-1", "1 ", "0x10", "18446744073709551616"} {
		if got, err := logcore.ParseLSN(bad); err == nil {
			t.Errorf("ParseLSN(%q) = %d, want an error", bad, got)
		}
	}
}

func TestValidateLogName(t *testing.T) {
	for _, good := range []string{"a", "0", "prod/orders-2.main_x", strings.Repeat("n", logcore.LogNameMax)} {
		if err := logcore.ValidateLogName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-a", "/a", ".a", "a b", "a\n", "ä", "a\x00", strings.Repeat("n", logcore.LogNameMax+1)} {
		if err := logcore.ValidateLogName(bad); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}

func TestKinds(t *testing.T) {
	if logcore.Kind(0).Valid() || logcore.Kind(9).Valid() {
		t.Error("0 and 9 are no kinds")
	}
	for k := logcore.KindData; k <= logcore.KindRaft; k++ {
		if want := k <= logcore.KindAbort; !k.Valid() || k.OfLog() != want || strings.HasPrefix(k.String(), "kind(") {
			t.Errorf("kind %d: valid %v, of a log %v, %q", k, k.Valid(), k.OfLog(), k)
		}
	}
}

// A clock's readings strictly rise whatever the wall clock does: stands still, jumps
// ahead, steps back.
func TestClockRisesAcrossWallClockSteps(t *testing.T) {
	wall := time.UnixMilli(1_700_000_000_000)
	clock := logcore.NewClock(func() time.Time { return wall })
	last := logcore.HLC(0)
	step := func(what string, d time.Duration) {
		wall = wall.Add(d)
		for _, read := range []func() logcore.HLC{clock.Next, clock.Now, clock.Now, clock.Next, clock.Now} {
			next := read()
			if next <= last {
				t.Fatalf("after the wall clock %s: %v does not follow %v", what, next, last)
			}
			last = next
		}
	}
	step("stood still", 0)
	step("went on", time.Millisecond)
	step("stepped back an hour", -time.Hour)
	step("jumped ahead a day", 24*time.Hour)
	if got := last.Wall(); !got.Equal(wall) {
		t.Errorf("the reading's wall clock is %v, want %v", got, wall)
	}
}

func TestClockCounterCarriesIntoTheNextMillisecond(t *testing.T) {
	clock := logcore.NewClock(func() time.Time { return time.UnixMilli(7) })
	first := clock.Now()
	for range 1 << 16 {
		clock.Now()
	}
	if got := clock.Now(); got <= first || got.Wall().UnixMilli() != 8 {
		t.Errorf("after 65,536 readings in a millisecond: %v", got)
	}
}

func TestClockRestoreAndObserve(t *testing.T) {
	wall := time.UnixMilli(1_000_000)
	clock := logcore.NewClock(func() time.Time { return wall })
	far := logcore.HLCAt(wall.Add(time.Hour))
	if err := clock.Observe(far); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("a remote reading an hour ahead: got %v, want ErrInvalid", err)
	}
	near := logcore.HLCAt(wall.Add(time.Second))
	if err := clock.Observe(near); err != nil || clock.Now() <= near {
		t.Errorf("a remote reading a second ahead was not taken: %v", err)
	}
	clock.Restore(far) // our own durable log is believed
	if clock.Now() <= far {
		t.Error("the clock fell behind the durable log")
	}
}

func TestClockIsUniqueUnderConcurrency(t *testing.T) {
	clock := logcore.NewClock(nil)
	const goroutines, each = 8, 2000
	seen := make([][]logcore.HLC, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				seen[g] = append(seen[g], clock.Now())
			}
		})
	}
	wg.Wait()
	all := map[logcore.HLC]bool{}
	for _, readings := range seen {
		for _, r := range readings {
			all[r] = true
		}
	}
	if len(all) != goroutines*each {
		t.Errorf("%d distinct readings of %d", len(all), goroutines*each)
	}
}

func TestErrorsNameTheThingAndUnwrap(t *testing.T) {
	corrupt := &logcore.CorruptionError{Place: "/data", Object: "seg-1", Offset: 4096, LSN: 7, Reason: "checksum"}
	for _, word := range []string{"/data", "seg-1", "4096", "LSN 7", "checksum"} {
		if !strings.Contains(corrupt.Error(), word) {
			t.Errorf("%q does not name %q", corrupt, word)
		}
	}
	if !errors.Is(corrupt, logcore.ErrCorrupt) || errors.Is(corrupt, logcore.ErrUnsupportedVersion) {
		t.Error("a CorruptionError must be ErrCorrupt and nothing else")
	}
	lag := &logcore.LagError{Asked: 100, Available: 60, Waited: time.Second}
	if !errors.Is(lag, logcore.ErrLSNInFuture) || !strings.Contains(lag.Error(), "40 behind") {
		t.Errorf("lag error: %v", lag)
	}
}
