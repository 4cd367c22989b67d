package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func options(t *testing.T, seed uint64, kills int) (Options, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	return Options{Dir: t.TempDir(), Seed: seed, Kills: kills, Out: &out, Logger: quiet()}, &out
}

// A small portion of the real run, on a seed of its own each time: one kill in each phase.
func TestThreeKills(t *testing.T) {
	seed := rand.Uint64()
	o, out := options(t, seed, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	result, err := Run(ctx, o)
	if err != nil && !strings.Contains(err.Error(), ErrVoid.Error()) {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if !result.OK() || result.Kills != 3 {
		t.Fatalf("seed %d:\n%s", seed, out)
	}
	rounds := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(rounds) != 4 {
		t.Fatalf("%d lines:\n%s", len(rounds), out)
	}
	for i, line := range rounds[:3] {
		var r Round
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Round != i+1 || r.Fragments == 0 || r.Covered == 0 {
			t.Errorf("round %d: %v: %s", i+1, err, line)
		}
	}
}

// The run must be able to fail: with each of these bugs it does, within a few kills.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, plant := range []string{PlantTrimFirst, PlantBlindPut} {
		t.Run(plant, func(t *testing.T) {
			o, out := options(t, 6, 9) // the first phase is archiving
			o.Plant, o.Patience = plant, 10*time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			result, err := Run(ctx, o)
			if result.OK() && err == nil {
				t.Fatalf("the run did not find it: the harness is broken\n%s", out)
			}
			t.Logf("found in round %d: %s %v", result.Kills, lastFailure(out), err)
		})
	}
}

func lastFailure(out *bytes.Buffer) string {
	for line := range strings.Lines(out.String()) {
		var r Round
		if json.Unmarshal([]byte(line), &r) == nil && r.Failure != "" {
			return r.Failure
		}
	}
	return "no round failed"
}

func TestOptionsReportAllThatIsBad(t *testing.T) {
	_, err := Run(t.Context(), Options{Dir: "relative", Plant: "weeds"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Dir", "Kills", "Plant"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is missing: %v", field, err)
		}
	}
}
