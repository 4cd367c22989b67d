package waldump

import (
	"fmt"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// reader takes the fields of a variable part in order.
type reader struct{ wal.Fields }

func (r *reader) count() int { return int(int32(r.U32())) }

// items calls each for n items of a size, and says with a question mark when they are not all there.
func (r *reader) items(dst []byte, n, size int, each func(dst, b []byte) []byte) []byte {
	for ; n > 0; n-- {
		b := r.Take(size)
		if r.Short {
			return append(dst, " ?"...)
		}
		dst = each(dst, b)
	}
	return dst
}

// from returns a reader of the main data from an offset on.
func from(r *wal.Record, offset int) *reader {
	return &reader{wal.Fields{B: r.Data[min(offset, len(r.Data)):]}}
}

// appendNumbers writes the numbers at offset at, as many as the word at offset count says.
func appendNumbers(count, at int) func([]byte, *wal.Record) []byte {
	return func(dst []byte, r *wal.Record) []byte {
		return from(r, at).items(dst, from(r, count).count(), 4, appendSpaced)
	}
}

func appendSpaced(dst, b []byte) []byte { return appendUint(append(dst, ' '), uint64(u32(b))) }

func appendStorageCreate(dst []byte, r *wal.Record) []byte {
	f := from(r, 0)
	return append(dst, relation(f.Take(12)).Path(wal.Fork(f.U32()))...)
}

func appendDatabaseDrop(dst []byte, r *wal.Record) []byte {
	f := from(r, 0)
	db := f.U32()
	return f.items(dst, f.count(), 4, func(dst, b []byte) []byte { return fmt.Appendf(dst, " %d/%d", u32(b), db) })
}

func appendMembers(dst []byte, r *wal.Record) []byte {
	f := from(r, 8)
	return f.items(dst, f.count(), 8, func(dst, b []byte) []byte {
		status := []string{"keysh", "sh", "fornokeyupd", "forupd", "nokeyupd", "upd"}
		name := "unk"
		if s := u32(b[4:]); s < uint32(len(status)) {
			name = status[s]
		}
		return fmt.Appendf(dst, "%d (%s) ", u32(b), name)
	})
}

func appendLocks(dst []byte, r *wal.Record) []byte {
	f := from(r, 0)
	return f.items(dst, f.count(), 12, func(dst, b []byte) []byte {
		return fmt.Appendf(dst, "xid %d db %d rel %d ", u32(b), u32(b[4:]), u32(b[8:]))
	})
}

func appendRunning(dst []byte, r *wal.Record) []byte {
	f := from(r, 0)
	n := f.count()
	if n > 0 {
		dst = fmt.Appendf(dst, "; %d xacts:", n)
		dst = from(r, 24).items(dst, n, 4, appendSpaced)
	}
	if f.U32(); f.U8() != 0 {
		dst = append(dst, "; subxid ovf"...)
	}
	return dst
}

func appendStandbyInvalidations(dst []byte, r *wal.Record) []byte {
	f := from(r, 0)
	db, tablespace := f.U32(), f.U32()
	initFile := f.Take(4)[0] != 0
	return appendInvalidations(dst, f, db, tablespace, initFile)
}

func appendXactInvalidations(dst []byte, r *wal.Record) []byte {
	return appendInvalidations(dst, from(r, 0), 0, 0, false)
}

// appendInvalidations writes a counted list of invalidation messages.
func appendInvalidations(dst []byte, f *reader, db, tablespace uint32, initFile bool) []byte {
	n := f.count()
	if n <= 0 {
		return dst
	}
	if initFile {
		dst = fmt.Appendf(dst, "; relcache init file inval dbid %d tsid %d", db, tablespace)
	}
	return f.items(append(dst, "; inval msgs:"...), n, wal.InvalidationBytes, func(dst, b []byte) []byte {
		switch id := int8(b[0]); {
		case id >= 0:
			return fmt.Appendf(dst, " catcache %d", id)
		case id == -1:
			return fmt.Appendf(dst, " catalog %d", u32(b[8:]))
		case id == -2:
			return fmt.Appendf(dst, " relcache %d", u32(b[8:]))
		case id == -3:
			return append(dst, " smgr"...)
		case id == -4:
			return fmt.Appendf(dst, " relmap db %d", u32(b[4:]))
		case id == -5:
			return fmt.Appendf(dst, " snapshot %d", u32(b[8:]))
		default:
			return fmt.Appendf(dst, " unrecognized id %d", id)
		}
	})
}

func appendHeapTruncate(dst []byte, r *wal.Record) []byte {
	f := from(r, 4)
	n := f.count()
	flags := f.Take(4)[0]
	if flags&1 != 0 {
		dst = append(dst, "cascade "...)
	}
	if flags&2 != 0 {
		dst = append(dst, "restart_seqs "...)
	}
	return f.items(fmt.Appendf(dst, "nrelids %d relids", uint32(n)), n, 4, appendSpaced)
}

func appendMetaCleanup(dst []byte, r *wal.Record) []byte {
	if b := r.Block(0); b != nil && len(b.Data) >= 24 {
		return appendUint(dst, uint64(u32(b.Data[20:])))
	}
	return append(dst, '?')
}

func trueFalse(b bool) byte {
	if b {
		return 'T'
	}
	return 'F'
}

func appendSplitAllocate(dst []byte, r *wal.Record) []byte {
	flags := from(r, 8).U8()
	return fmt.Appendf(dst, "meta_page_masks_updated %c, issplitpoint_changed %c", trueFalse(flags&1 != 0), trueFalse(flags&2 != 0))
}

func appendGeneric(dst []byte, r *wal.Record) []byte {
	for f := from(r, 0); len(f.B) > 0; {
		offset, length := f.U16(), f.U16()
		f.Take(int(length))
		dst = fmt.Appendf(dst, "offset %d, length %d", offset, length)
		if len(f.B) > 0 {
			dst = append(dst, "; "...)
		}
	}
	return dst
}

func appendMessage(dst []byte, r *wal.Record) []byte {
	f := from(r, 4)
	transactional := f.Take(4)[0] != 0
	prefixBytes, bytes := u64(f.Take(8)), u64(f.Take(8))
	if f.Short || prefixBytes > uint64(len(f.B)) || bytes != uint64(len(f.B))-prefixBytes {
		return append(dst, '?')
	}
	if !transactional {
		dst = append(dst, "non-"...)
	}
	dst = fmt.Appendf(dst, "transactional, prefix \"%s\"; payload (%d bytes): ", terminated(f.Take(int(prefixBytes))), bytes)
	return fmt.Appendf(dst, "% X", f.B)
}
