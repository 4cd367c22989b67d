package catalog

import (
	"hash/crc32"

	"github.com/logcore/logcore"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Place is where an append went.
type Place struct {
	LSN  logcore.LSN
	Time logcore.HLC
	tx   uint32 // checksum of its transaction id
}

// Holds reports whether the append at this place was of the given transaction. It
// compares checksums of 32 bits: a checkpoint of the fullest catalog must stay below the entry
// limit, and the ids are random.
func (p Place) Holds(tx logcore.TxID) bool { return p.tx == txSum(tx) }

func txSum(tx logcore.TxID) uint32 { return crc32.Checksum(tx[:], castagnoli) }

// window remembers the places of an epoch's last WindowEntries appends, so that one
// that is tried again is answered and not written twice. Sequence s stands at
// places[s % WindowEntries]; it is allocated with the epoch's first append.
type window struct {
	places []Place
}

func (w *window) put(sequence uint64, p Place) {
	if w.places == nil {
		w.places = make([]Place, WindowEntries)
	}
	w.places[sequence%WindowEntries] = p
}

// get returns the place of a sequence, given the epoch's last one.
func (w *window) get(sequence, last uint64) (Place, bool) {
	if w.places == nil || sequence == 0 || sequence > last || last-sequence >= WindowEntries {
		return Place{}, false
	}
	return w.places[sequence%WindowEntries], true
}

// count returns how many places are remembered, given the epoch's last sequence.
func (w *window) count(last uint64) int {
	if w.places == nil {
		return 0
	}
	return int(min(last, WindowEntries))
}
