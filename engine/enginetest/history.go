package enginetest

import (
	"math/rand/v2"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
)

// Transaction is one transaction of a history, as the payloads of its entries.
type Transaction struct {
	Parts [][]byte
	// Abort discards it. EmptyCommit closes it with a COMMIT without a payload, so that
	// every part is a PART entry.
	Abort, EmptyCommit bool
}

// Engine is what the suite is told about an engine.
type Engine struct {
	Decoder engine.Decoder
	// History returns random transactions. The same numbers give the same ones.
	History func(rng *rand.Rand, transactions int) []Transaction
}

// PagesEngine is the native page format with histories that reach every record, and
// every order of them that matters: deltas on pages that are missing, cut, or only
// implied by a later one; truncations up and down; drops; several changes of a page
// in one transaction; transactions in parts.
func PagesEngine() Engine { return Engine{Decoder: pages.Decoder{}, History: PagesHistory} }

// Spaces of PagesHistory; each has its own page size.
var historySpaces = []struct {
	space    engine.Space
	pageSize uint32
}{{engine.SpaceOf(0), 256}, {engine.SpaceOf(1), 64}, {engine.SpaceOf(7), 1024}}

// historyPages bounds the pages that PagesHistory touches in a space.
const historyPages = 24

// PagesHistory generates transactions in the native page format.
func PagesHistory(rng *rand.Rand, transactions int) []Transaction {
	history := make([]Transaction, 0, transactions)
	for range transactions {
		var t Transaction
		for range 1 + rng.IntN(4)/3*rng.IntN(4) {
			payloads, err := pages.Encode(randomRecords(rng), 1<<24)
			if err != nil {
				panic("enginetest: " + err.Error())
			}
			t.Parts = append(t.Parts, payloads...)
		}
		t.Abort = rng.IntN(12) == 0
		t.EmptyCommit = len(t.Parts) > 1 && rng.IntN(3) == 0
		history = append(history, t)
	}
	return history
}

func randomRecords(rng *rand.Rand) []engine.Record {
	var records []engine.Record
	for range 1 + rng.IntN(5) {
		sp := historySpaces[rng.IntN(len(historySpaces))]
		r := engine.Record{Space: sp.space, PageSize: sp.pageSize, Page: uint32(rng.IntN(historyPages))}
		if rng.IntN(2) == 0 {
			r.Page = uint32(rng.IntN(3)) // some pages are hot: their chains grow long
		}
		switch n := rng.IntN(100); {
		case n < 15:
			r.Op, r.Data = engine.OpImage, randomBytes(rng, int(sp.pageSize))
		case n < 92:
			r.Op, r.Ranges = engine.OpDelta, randomRanges(rng, int(sp.pageSize))
		case n < 99:
			r.Op, r.Page = engine.OpTruncate, uint32(rng.IntN(historyPages+4))
		default:
			r.Op, r.Page = engine.OpDrop, 0
		}
		records = append(records, r)
	}
	return records
}

func randomRanges(rng *rand.Rand, pageSize int) []engine.Range {
	var ranges []engine.Range
	for at := rng.IntN(pageSize); at < pageSize && len(ranges) < 3; at += rng.IntN(pageSize / 2) {
		n := min(1+rng.IntN(9), pageSize-at)
		ranges = append(ranges, engine.Range{Offset: uint32(at), Data: randomBytes(rng, n)})
		at += n
	}
	return ranges
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
