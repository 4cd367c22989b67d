package verify

import (
	"encoding/binary"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// forget drops the pages of files that a record without blocks truncates or overwrites
// by means that are not logged page by page.
func (v *Verifier) forget(r *wal.Record) {
	const truncate, createFileCopy = 0x20, 0x00
	switch {
	case r.Manager == wal.ManagerStorage && r.Op() == truncate && len(r.Data) >= 20:
		length := binary.LittleEndian.Uint32(r.Data)
		relation := wal.Relation{Tablespace: binary.LittleEndian.Uint32(r.Data[4:]), Database: binary.LittleEndian.Uint32(r.Data[8:]), File: binary.LittleEndian.Uint32(r.Data[12:])}
		for k := range v.pages {
			if k.relation == relation && (k.fork != wal.ForkMain || k.number >= length) {
				delete(v.pages, k)
			}
		}
	case r.Manager == wal.ManagerDatabase && r.Op() == createFileCopy && len(r.Data) >= 8:
		database := binary.LittleEndian.Uint32(r.Data)
		for k := range v.pages {
			if k.relation.Database == database {
				delete(v.pages, k)
			}
		}
	}
}
