package enginetest_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// planted is a page server's view of the log with a mistake in it, which the
// comparison with the replay must find.
type planted struct {
	*enginetest.Source
	entry  func(*pageserver.Entry) // may change an entry on its way
	record func(*engine.Record)    // may change a record
}

func (p planted) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		for b, err := range p.Source.Follow(ctx, log, from) {
			entries := append([]pageserver.Entry(nil), b.Entries...)
			for i := range entries {
				if p.entry != nil {
					p.entry(&entries[i])
				}
			}
			if !yield(pageserver.Batch{Entries: entries, Through: b.Through}, err) {
				return
			}
		}
	}
}

func (p planted) Redo(page, data []byte) error { return pages.Decoder{}.Redo(page, data) }

// plantedDecoder is the synthetic decoder with a mistake in it.
type plantedDecoder struct {
	enginetest.Synthetic
	record    func(*engine.Record) bool // may change a record; false leaves it out
	stateless bool
	redo      func(page, data []byte)
}

func (p plantedDecoder) Decode(state, payload []byte) ([]engine.Record, []byte, error) {
	if p.stateless {
		state = nil
	}
	records, next, err := p.Synthetic.Decode(state, payload)
	if p.record != nil {
		records = slices.DeleteFunc(records, func(r engine.Record) bool { return !p.record(&r) })
	}
	return records, next, err
}

func (p plantedDecoder) Redo(page, data []byte) error {
	if p.redo != nil {
		p.redo(page, data)
	}
	return p.Synthetic.Redo(page, data)
}

// TestPlantedMistakesOfEverything is TestPlantedMistakes for the operations that the
// native format does not have.
func TestPlantedMistakesOfEverything(t *testing.T) {
	without := func(op engine.Op) plantedDecoder {
		return plantedDecoder{record: func(r *engine.Record) bool { return r.Op != op }}
	}
	for name, decoder := range map[string]plantedDecoder{
		"none":                  {},
		"state forgotten":       {stateless: true},
		"dropped groups stay":   without(engine.OpDropGroup),
		"copies forgotten":      without(engine.OpCopyGroup),
		"objects forgotten":     without(engine.OpPut),
		"redo one byte further": {redo: func(page, _ []byte) { page[0]++ }},
		"some redo over zeros": {redo: func(page, data []byte) {
			if data[0] < 20 {
				clear(page)
			}
		}},
		"removed objects stay": {record: func(r *engine.Record) bool { return r.Op != engine.OpPut || r.Data != nil }},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			rng := rand.New(rand.NewPCG(seed, 0))
			source := enginetest.NewSource(1)
			source.Create("db")
			for _, tx := range enginetest.SyntheticHistory(rng, 500) {
				source.AppendTx("db", tx)
			}
			s := enginetest.Start(t, enginetest.Options(t.TempDir(), source, decoder))
			spaces := enginetest.SpacesOf(t, source, enginetest.Synthetic{}, "db")
			var found error
			for range 40 {
				at := 1 + logcore.LSN(rng.Uint64N(uint64(source.Last())))
				if _, err := enginetest.Compare(t.Context(), s.Server, source, enginetest.Synthetic{}, "db", at, spaces); err != nil {
					found = err
				}
			}
			if (found == nil) != (name == "none") {
				t.Errorf("seed %d: found: %v", seed, found)
			}
		})
	}
}

func (p planted) Decode(_, payload []byte) ([]engine.Record, []byte, error) {
	records, err := pages.Decode(payload)
	for i := range records {
		if p.record != nil {
			p.record(&records[i])
		}
	}
	return records, nil, err
}

// TestPlantedMistakes: the comparison is able to fail.
func TestPlantedMistakes(t *testing.T) {
	for name, plant := range map[string]planted{
		"none": {},
		"parts visible before their commit": {entry: func(e *pageserver.Entry) {
			if e.Kind == logcore.KindPart {
				e.Kind = logcore.KindData
			}
		}},
		"aborted transactions committed": {entry: func(e *pageserver.Entry) {
			if e.Kind == logcore.KindAbort {
				e.Kind, e.Payload = logcore.KindCommit, nil
			}
		}},
		"commits under the wrong time": {entry: func(e *pageserver.Entry) {
			if e.Kind == logcore.KindCommit {
				e.LSN--
			}
		}},
		"truncation one page short": {record: func(r *engine.Record) {
			if r.Op == engine.OpTruncate && r.Page > 0 {
				r.Page--
			}
		}},
		"drops forgotten": {record: func(r *engine.Record) {
			if r.Op == engine.OpDrop {
				r.Op, r.Page, r.PageSize, r.Ranges = engine.OpDelta, 0, 64, []engine.Range{{Data: []byte{0}}}
				if r.Space.Lo == 0 {
					r.PageSize = 256
				} else if r.Space.Lo == 7 {
					r.PageSize = 1024
				}
			}
		}},
		"one byte of some deltas": {record: func(r *engine.Record) {
			if r.Op == engine.OpDelta && r.Page == 17 {
				r.Ranges[0].Data = append([]byte{r.Ranges[0].Data[0] ^ 1}, r.Ranges[0].Data[1:]...)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			rng := rand.New(rand.NewPCG(seed, 0))
			plant.Source = enginetest.NewSource(1)
			plant.Source.Create("db")
			for _, tx := range enginetest.PagesHistory(rng, 500) {
				plant.Source.AppendTx("db", tx)
			}
			s := enginetest.Start(t, enginetest.Options(t.TempDir(), plant, plant))
			found := compareAll(t, s, plant.Source, rng)
			if (found == nil) != (name == "none") {
				t.Errorf("seed %d: found: %v", seed, found)
			}
		})
	}
}

// compareAll returns the first difference at some of the LSNs.
func compareAll(t *testing.T, s *enginetest.Subject, source *enginetest.Source, rng *rand.Rand) error {
	spaces := enginetest.SpacesOf(t, source, pages.Decoder{}, "db")
	for range 120 {
		at := 1 + logcore.LSN(rng.Uint64N(uint64(source.Last())))
		if _, err := enginetest.Compare(t.Context(), s.Server, source, pages.Decoder{}, "db", at, spaces); err != nil {
			return fmt.Errorf("at LSN %d: %w", at, err)
		}
	}
	return nil
}
