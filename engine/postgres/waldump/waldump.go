// Package waldump describes PostgreSQL's WAL records in words: the same words, byte for
// byte, as pg_waldump of the same version, so that the two can be compared over a whole
// log. What each field of a record means it takes from tables of the layouts (table.go), and from
// code where a record has a variable part.
package waldump

import (
	"fmt"
	"strconv"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// Append appends the line for a record, without a newline, to dst. A field that a
// record is too short for is a question mark.
func Append(dst []byte, r *wal.Record) []byte {
	dst = fmt.Appendf(dst, "rmgr: %-11s len (rec/tot): %6d/%6d, tx: %10d, lsn: %s, prev %s, desc: ",
		r.Manager, r.DataLength(), r.Length, r.XID, padded(r.Start), padded(r.Prev))
	dst = AppendDescription(dst, r)
	for i := range r.Blocks {
		dst = appendBlock(dst, &r.Blocks[i])
	}
	return dst
}

// padded is a position with its low half in eight digits, as in pg_waldump's columns.
func padded(p wal.Position) string { return fmt.Sprintf("%X/%08X", uint32(p>>32), uint32(p)) }

// AppendDescription appends what a record does, its operation's name first.
func AppendDescription(dst []byte, r *wal.Record) []byte {
	k := find(r.Manager, r.Op())
	if k == nil {
		dst = fmt.Appendf(dst, "UNKNOWN (%x) ", r.Op())
		if r.Manager >= wal.ManagerCustomMin {
			dst = fmt.Appendf(dst, "rmid: %d", uint8(r.Manager))
		}
		return dst
	}
	dst = append(append(dst, k.name...), ' ')
	for _, p := range k.pieces {
		dst = p.appendTo(dst, r)
	}
	if k.more != nil {
		dst = k.more(dst, r)
	}
	return dst
}

// Name returns the name of a record's operation, "UNKNOWN (xx)" when it has none.
func Name(m wal.Manager, op uint8) string {
	if k := find(m, op); k != nil {
		return k.name
	}
	return "UNKNOWN (" + strconv.FormatUint(uint64(op), 16) + ")"
}

func appendBlock(dst []byte, b *wal.Block) []byte {
	dst = fmt.Appendf(dst, ", blkref #%d: rel %d/%d/%d", b.ID, b.Relation.Tablespace, b.Relation.Database, b.Relation.File)
	if b.Fork != wal.ForkMain {
		dst = fmt.Appendf(dst, " fork %s", b.Fork)
	}
	dst = fmt.Appendf(dst, " blk %d", b.Number)
	switch {
	case b.HasImage && b.Image.Apply:
		dst = append(dst, " FPW"...)
	case b.HasImage:
		dst = append(dst, " FPW for WAL verification"...)
	}
	return dst
}
