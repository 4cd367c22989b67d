package wal

import (
	"fmt"

	"github.com/logcore/logcore"
)

// Magic is the number that begins each WAL page. PostgreSQL changes it with every
// version whose log differs.
type Magic uint16

// Magic15 is PostgreSQL 15's.
const Magic15 Magic = 0xD110

// known names the versions that are recognised, so that a refusal can say what it met: all whose pages look like this in their first two bytes, from the one
// on that gave WAL records their form (9.5). A version that is added here as one that is read has to bring its layouts.
var known = map[Magic]string{
	0xD087: "9.5", 0xD093: "9.6", 0xD097: "10", 0xD098: "11", 0xD101: "12", 0xD106: "13", 0xD10D: "14",
	Magic15: "15", 0xD113: "16", 0xD116: "17", 0xD118: "18",
}

// check refuses logs that this package has no layouts for.
func (m Magic) check() error {
	if m == Magic15 {
		return nil
	}
	name, ok := known[m]
	if !ok {
		return fmt.Errorf("%w: WAL page magic %04X belongs to no version of PostgreSQL that is known here; 15 (%04X) is read", logcore.ErrUnsupportedVersion, uint16(m), uint16(Magic15))
	}
	return fmt.Errorf("%w: this is WAL of PostgreSQL %s (page magic %04X); 15 (%04X) is read", logcore.ErrUnsupportedVersion, name, uint16(m), uint16(Magic15))
}
