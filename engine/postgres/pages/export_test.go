package pages

import (
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// RedoData returns the data of the redo record that the decoder makes of a record's block.
func RedoData(r *wal.Record, block int, s effect.Settings) []byte {
	e := emitter{effects: effect.Interpreter{Settings: s}}
	if err := e.Block(r, &r.Blocks[block]); err != nil {
		panic(err)
	}
	return e.finish()[0].Data
}
