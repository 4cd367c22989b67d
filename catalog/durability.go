package catalog

import (
	"fmt"

	"github.com/logcore/logcore"
)

// Durability says when an entry of a log is acknowledged. The numbers are durable.
type Durability uint8

// The durabilities.
const (
	// DurabilityQuorum: once a quorum of the members has it on stable storage.
	DurabilityQuorum Durability = 0
	// DurabilityArchive: once, besides, a manifest that covers it is on a majority of the
	// archive's targets. What was acknowledged outlives every member.
	DurabilityArchive Durability = 1
)

// String returns the durability's name.
func (d Durability) String() string {
	switch d {
	case DurabilityQuorum:
		return "quorum"
	case DurabilityArchive:
		return "quorum+archive"
	}
	return fmt.Sprintf("durability(%d)", uint8(d))
}

// ParseDurability reads what String writes. The error wraps logcore.ErrInvalid.
func ParseDurability(name string) (Durability, error) {
	for _, d := range []Durability{DurabilityQuorum, DurabilityArchive} {
		if name == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%w: durability %q: want quorum or quorum+archive", logcore.ErrInvalid, name)
}
