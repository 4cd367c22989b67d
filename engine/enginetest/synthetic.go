package enginetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// SyntheticEngine reaches every operation that a decoder has: redo records whose effect
// depends on the page before and on the decoder's state, groups of spaces, objects, and
// a state that grows beyond what one value of the store holds.
func SyntheticEngine() Engine { return Engine{Decoder: Synthetic{}, History: SyntheticHistory} }

// SyntheticFormat is the format for a mux.
func SyntheticFormat() engine.Format {
	return engine.Format{Name: "synthetic", Magic: []byte(syntheticMagic), Decoder: Synthetic{}}
}

const syntheticMagic = "SYNT"

// Synthetic is a decoder with a state: what a record does depends on every entry before.
//
// The state is a hash of all payloads that count, and a ballast that payloads make longer
// and shorter. Payloads that don't count leave the state as it is.
type Synthetic struct{}

// Decode implements engine.Decoder.
func (Synthetic) Decode(state, payload []byte) ([]engine.Record, []byte, error) {
	if len(payload) < 12 || string(payload[:4]) != syntheticMagic {
		return nil, nil, &logcore.CorruptionError{Place: "log entry", Object: "synthetic payload", Offset: 0, Reason: "no magic"}
	}
	counts, ballast := payload[4] != 0, int(binary.LittleEndian.Uint16(payload[6:]))
	src := source{payload[8:]}
	records := make([]engine.Record, src.u32())
	for i := range records {
		r := &records[i]
		r.Op, r.Init = engine.Op(src.u32()), src.u32() != 0
		r.Space = engine.Space{Hi: uint64(src.u32()), Lo: uint64(src.u32())}
		r.Page, r.PageSize, r.From = src.u32(), src.u32(), uint64(src.u32())
		r.Key, r.Data = src.bytes(), src.bytes()
		if n := src.u32(); n > 0 {
			r.Ranges = make([]engine.Range, n)
		}
		for j := range r.Ranges {
			r.Ranges[j] = engine.Range{Offset: src.u32(), Data: src.bytes()}
		}
		if r.Op == engine.OpRedo {
			r.Data = append(append([]byte(nil), r.Data...), hashOf(state)...)
		}
	}
	if !counts {
		return records, state, nil
	}
	next := make([]byte, 8+1000*ballast)
	copy(next, state)
	binary.LittleEndian.PutUint64(next, xxh3.HashSeed(payload, binary.LittleEndian.Uint64(hashOf(state))))
	if ballast > 0 {
		next[8+int(next[0])*1000*ballast/256]++
	}
	return records, next, nil
}

func hashOf(state []byte) []byte {
	if len(state) < 8 {
		return make([]byte, 8)
	}
	return state[:8]
}

// Redo implements engine.Decoder: what it does depends on the whole page.
func (Synthetic) Redo(page, data []byte) error {
	h := xxh3.HashSeed(page, uint64(len(data)))
	for i, c := range data {
		at := (h + uint64(i)*uint64(data[0]|1)) % uint64(len(page))
		page[at] = page[at]*3 + c
	}
	return nil
}

// source reads what syntheticPayload wrote. Payloads come from this package alone.
type source struct{ b []byte }

func (s *source) u32() uint32 {
	v := binary.LittleEndian.Uint32(s.b)
	s.b = s.b[4:]
	return v
}

// bytes returns nil for a length of 2^32-1.
func (s *source) bytes() []byte {
	n := s.u32()
	if n == 1<<32-1 {
		return nil
	}
	v := s.b[:n:n]
	s.b = s.b[n:]
	return v
}

func syntheticPayload(counts bool, ballast int, records []engine.Record) []byte {
	b := append([]byte(syntheticMagic), 0, 0)
	if counts {
		b[4] = 1
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(ballast))
	u32 := func(vs ...uint32) {
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	bytes := func(v []byte) {
		if v == nil {
			u32(1<<32 - 1)
			return
		}
		u32(uint32(len(v)))
		b = append(b, v...)
	}
	u32(uint32(len(records)))
	for _, r := range records {
		init := uint32(0)
		if r.Init {
			init = 1
		}
		u32(uint32(r.Op), init, uint32(r.Space.Hi), uint32(r.Space.Lo), r.Page, r.PageSize, uint32(r.From))
		bytes(r.Key)
		bytes(r.Data)
		u32(uint32(len(r.Ranges)))
		for _, g := range r.Ranges {
			u32(g.Offset)
			bytes(g.Data)
		}
	}
	return b
}

// syntheticGroups and syntheticSpaces are the spaces of SyntheticHistory: each Lo of
// each Hi. A copy keeps the Lo, and so the page size.
const syntheticGroups = 3

var syntheticSpaces = []struct {
	lo       uint64
	pageSize uint32
}{{1, 64}, {2, 256}, {5, 1024}}

// SyntheticHistory generates transactions for Synthetic.
func SyntheticHistory(rng *rand.Rand, transactions int) []Transaction {
	history := make([]Transaction, 0, transactions)
	ballast := 0
	for range transactions {
		var t Transaction
		for range 1 + rng.IntN(4)/3*rng.IntN(4) {
			if rng.IntN(40) == 0 {
				if ballast = 0; rng.IntN(6) == 0 {
					ballast = 1 + rng.IntN(140) // up to three values of the store
				}
			}
			var records []engine.Record
			for range 1 + rng.IntN(6) {
				records = append(records, syntheticRecord(rng))
			}
			t.Parts = append(t.Parts, syntheticPayload(rng.IntN(4) != 0, ballast, records))
		}
		t.Abort = rng.IntN(12) == 0
		t.EmptyCommit = len(t.Parts) > 1 && rng.IntN(3) == 0
		history = append(history, t)
	}
	return history
}

func syntheticRecord(rng *rand.Rand) engine.Record {
	sp := syntheticSpaces[rng.IntN(len(syntheticSpaces))]
	hi := uint64(rng.IntN(syntheticGroups))
	r := engine.Record{Space: engine.Space{Hi: hi, Lo: sp.lo}, PageSize: sp.pageSize, Page: uint32(rng.IntN(historyPages))}
	if rng.IntN(2) == 0 {
		r.Page = uint32(rng.IntN(3)) // some pages are hot: their chains grow long
	}
	switch n := rng.IntN(200); {
	case n < 15:
		r.Op, r.Data = engine.OpImage, randomBytes(rng, int(sp.pageSize))
	case n < 60:
		r.Op, r.Ranges = engine.OpDelta, randomRanges(rng, int(sp.pageSize))
	case n < 150:
		r.Op, r.Init, r.Data = engine.OpRedo, rng.IntN(12) == 0, randomBytes(rng, 1+rng.IntN(20))
	case n < 160:
		r.Op, r.Page = engine.OpTruncate, uint32(rng.IntN(historyPages+4))
	case n < 162:
		r.Op, r.Page = engine.OpDrop, 0
	case n < 163:
		r = engine.Record{Op: engine.OpDropGroup, Space: engine.Space{Hi: hi}}
	case n < 167:
		r = engine.Record{Op: engine.OpCopyGroup, Space: engine.Space{Hi: hi}, From: uint64(rng.IntN(syntheticGroups))}
	default:
		r = engine.Record{Op: engine.OpPut, Key: syntheticKey(rng)}
		if rng.IntN(4) != 0 {
			r.Data = randomBytes(rng, rng.IntN(40))
		}
	}
	return r
}

// syntheticKey returns one of few keys: some begin with others, some have zeros.
func syntheticKey(rng *rand.Rand) []byte {
	key := fmt.Appendf(nil, "k%d", rng.IntN(6))
	for range rng.IntN(3) {
		key = append(key, byte(rng.IntN(3)))
	}
	return key
}
