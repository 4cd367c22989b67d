package tiering

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// Target is one bucket at one provider. The manifest names targets by Name, so the
// name must stay with the bucket for ever.
type Target struct {
	Name     string // 1 to 64 bytes of [a-zA-Z0-9._-], unique
	Provider string // failure domain; empty = unknown
	Region   string
	Home     bool          // reading from here is free and near: data fragments go here first
	Prices   Prices        // what the provider asks; zero = free
	Bucket   bucket.Bucket // nil = the target could not be opened: it counts as unreachable
}

// Prices is what a provider asks, in the operator's own currency. Zero is free.
type Prices struct {
	Storage float64 // for a gigabyte (1e9 bytes) and month of 30 days
	Egress  float64 // for a gigabyte read out of the provider
	Puts    float64 // for a thousand puts and lists
	Gets    float64 // for a thousand gets and heads
}

// targetNameMax bounds Target.Name; records store its length in one byte.
const targetNameMax = 64

// validateTargets checks names and uniqueness. Two names of one bucket would put two
// fragments where one loss takes both.
func validateTargets(targets []Target) error {
	if len(targets) == 0 || len(targets) > targetsMax {
		return fmt.Errorf("%w: %d targets: want 1 to %d", logcore.ErrInvalid, len(targets), targetsMax)
	}
	names, places := map[string]bool{}, map[string]string{}
	for i, t := range targets {
		if !validTargetName(t.Name) {
			return fmt.Errorf("%w: name %q of target %d: want 1 to %d bytes of letters, digits and . _ -", logcore.ErrInvalid, t.Name, i, targetNameMax)
		}
		if names[t.Name] {
			return fmt.Errorf("%w: two targets are named %q: give each its own name", logcore.ErrInvalid, t.Name)
		}
		names[t.Name] = true
		if t.Bucket == nil {
			continue
		}
		place := t.Bucket.String()
		if other, ok := places[place]; ok && place != "" {
			return fmt.Errorf("%w: targets %q and %q are the same bucket %s: losing it would lose two fragments", logcore.ErrInvalid, other, t.Name, place)
		}
		places[place] = t.Name
	}
	return nil
}

func validTargetName(name string) bool {
	if name == "" || len(name) > targetNameMax {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
