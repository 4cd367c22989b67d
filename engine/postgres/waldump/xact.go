package waldump

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/wal"
)

func appendMicros(dst []byte, t int64) []byte {
	return appendTime(dst, binary.LittleEndian.AppendUint64(nil, uint64(t)))
}

// appendBegin writes what commits and aborts begin with.
func appendBegin(dst []byte, t *wal.Transaction) []byte {
	if t.PreparedXID != 0 {
		dst = fmt.Appendf(dst, "%d: ", t.PreparedXID)
	}
	dst = appendMicros(dst, t.Time)
	dst = appendRelations(dst, t.Relations, "rels")
	return appendSubxacts(dst, t.Subxacts)
}

func appendOrigin(dst []byte, t *wal.Transaction, node uint16) []byte {
	return appendMicros(fmt.Appendf(dst, "; origin: node %d, lsn %v, at ", node, t.OriginPosition), t.OriginTime)
}

func appendCommit(dst []byte, r *wal.Record) []byte {
	t := wal.ParseTransaction(r)
	dst = appendStats(appendBegin(dst, &t), t.Stats, "")
	dst = appendInvals(dst, &t)
	if t.Info&wal.InfoApplyFeedback != 0 {
		dst = append(dst, "; apply_feedback"...)
	}
	if t.Info&wal.InfoForceSync != 0 {
		dst = append(dst, "; sync"...)
	}
	if t.Info&wal.InfoHasOrigin != 0 {
		dst = appendOrigin(dst, &t, r.Origin)
	}
	return appendShort(dst, &t)
}

func appendAbort(dst []byte, r *wal.Record) []byte {
	t := wal.ParseTransaction(r)
	dst = appendBegin(dst, &t)
	if t.Info&wal.InfoHasOrigin != 0 {
		dst = appendOrigin(dst, &t, r.Origin)
	}
	return appendShort(appendStats(dst, t.Stats, ""), &t)
}

func appendPrepare(dst []byte, r *wal.Record) []byte {
	t := wal.ParsePrepare(r)
	dst = appendMicros(fmt.Appendf(dst, "gid %s: ", t.GID), t.Time)
	dst = appendRelations(dst, t.Relations, "rels(commit)")
	dst = appendRelations(dst, t.AbortRelations, "rels(abort)")
	dst = appendStats(dst, t.Stats, "commit ")
	dst = appendStats(dst, t.AbortStats, "abort ")
	dst = appendSubxacts(dst, t.Subxacts)
	dst = appendInvals(dst, &t)
	if r.HasOrigin && r.Origin != 0 {
		dst = appendOrigin(dst, &t, r.Origin)
	}
	return appendShort(dst, &t)
}

func appendShort(dst []byte, t *wal.Transaction) []byte {
	if t.Short {
		dst = append(dst, " ?"...)
	}
	return dst
}

func appendRelations(dst []byte, l wal.List, label string) []byte {
	if l.N > 0 {
		dst = fmt.Appendf(dst, "; %s:", label)
	}
	for i := range l.N {
		dst = append(append(dst, ' '), l.Relation(i).Path(wal.ForkMain)...)
	}
	return dst
}

func appendSubxacts(dst []byte, l wal.List) []byte {
	if l.N > 0 {
		dst = append(dst, "; subxacts:"...)
	}
	for i := range l.N {
		dst = appendUint(append(dst, ' '), uint64(l.Number(i)))
	}
	return dst
}

func appendStats(dst []byte, l wal.List, label string) []byte {
	if l.N > 0 {
		dst = fmt.Appendf(dst, "; %sdropped stats:", label)
	}
	for b := l.Bytes; len(b) > 0; b = b[12:] {
		dst = fmt.Appendf(dst, " %d/%d/%d", int32(u32(b)), u32(b[4:]), u32(b[8:]))
	}
	return dst
}

func appendInvals(dst []byte, t *wal.Transaction) []byte {
	counted := binary.LittleEndian.AppendUint32(nil, uint32(t.Invalidations.N))
	return appendInvalidations(dst, &reader{wal.Fields{B: append(counted, t.Invalidations.Bytes...)}}, t.Database, t.Tablespace, t.Info&wal.InfoInitFile != 0)
}
