package waldump

import (
	"fmt"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// What a commit or abort record has, in the order in which the parts follow.
const (
	xactHasDatabase   = 1 << 0
	xactHasSubxacts   = 1 << 1
	xactHasRelations  = 1 << 2
	xactHasStats      = 1 << 8
	xactHasInvals     = 1 << 3
	xactHasTwoPhase   = 1 << 4
	xactHasGID        = 1 << 7
	xactHasOrigin     = 1 << 5
	xactApplyFeedback = 1 << 29
	xactInitFile      = 1 << 30
	xactForceSync     = 1 << 31

	xactHasInfo = 0x80 // of Record.Info
)

// xact is a commit or abort record, taken apart. The lists are readers of whole items.
type xact struct {
	time                       []byte
	info                       uint32
	database, tablespace       uint32
	subxacts, relations, stats list
	invals                     list
	preparedXID                uint32
	originPosition, originTime []byte
	short                      bool
}

// list is a counted list inside a record.
type list struct {
	n int
	b []byte
}

func (r *reader) list(size int) list {
	n := r.count()
	if n < 0 || n > len(r.b)/size {
		r.short = true
		return list{}
	}
	return list{n, r.take(n * size)}
}

func parseXact(r *wal.Record) xact {
	f := from(r, 0)
	x := xact{time: f.take(8)}
	if r.Info&xactHasInfo != 0 {
		x.info = f.u32()
	}
	if x.info&xactHasDatabase != 0 {
		x.database, x.tablespace = f.u32(), f.u32()
	}
	if x.info&xactHasSubxacts != 0 {
		x.subxacts = f.list(4)
	}
	if x.info&xactHasRelations != 0 {
		x.relations = f.list(12)
	}
	if x.info&xactHasStats != 0 {
		x.stats = f.list(12)
	}
	if x.info&xactHasInvals != 0 {
		x.invals = f.list(invalidationBytes)
	}
	if x.info&xactHasTwoPhase != 0 {
		x.preparedXID = f.u32()
		if x.info&xactHasGID != 0 {
			f.take(len(terminated(f.b)) + 1)
		}
	}
	if x.info&xactHasOrigin != 0 {
		x.originPosition, x.originTime = f.take(8), f.take(8)
	}
	x.short = f.short
	return x
}

// appendBegin writes what commits and aborts begin with.
func (x *xact) appendBegin(dst []byte) []byte {
	if x.preparedXID != 0 {
		dst = fmt.Appendf(dst, "%d: ", x.preparedXID)
	}
	dst = appendTime(dst, x.time)
	dst = x.relations.appendRelations(dst, "rels")
	return x.subxacts.appendSubxacts(dst)
}

func (x *xact) appendOrigin(dst []byte, r *wal.Record) []byte {
	if x.info&xactHasOrigin == 0 {
		return dst
	}
	return appendOrigin(dst, r.Origin, x.originPosition, x.originTime)
}

func appendOrigin(dst []byte, node uint16, position, at []byte) []byte {
	return appendTime(fmt.Appendf(dst, "; origin: node %d, lsn %v, at ", node, wal.Position(u64(position))), at)
}

func appendCommit(dst []byte, r *wal.Record) []byte {
	x := parseXact(r)
	dst = x.stats.appendStats(x.appendBegin(dst), "")
	dst = x.invals.appendInvalidations(dst, x.database, x.tablespace, x.info&xactInitFile != 0)
	if x.info&xactApplyFeedback != 0 {
		dst = append(dst, "; apply_feedback"...)
	}
	if x.info&xactForceSync != 0 {
		dst = append(dst, "; sync"...)
	}
	return x.appendEnd(x.appendOrigin(dst, r))
}

func appendAbort(dst []byte, r *wal.Record) []byte {
	x := parseXact(r)
	return x.appendEnd(x.stats.appendStats(x.appendOrigin(x.appendBegin(dst), r), ""))
}

func (x *xact) appendEnd(dst []byte) []byte {
	if x.short {
		dst = append(dst, " ?"...)
	}
	return dst
}

// appendPrepare writes a PREPARE record: a fixed part, then the lists, each aligned to 8.
func appendPrepare(dst []byte, r *wal.Record) []byte {
	const fixedBytes = 72
	if len(r.Data) < fixedBytes {
		return append(dst, '?')
	}
	fixed := r.Data[:fixedBytes]
	f := from(r, fixedBytes)
	part := func(countAt, size int) list {
		n := int(int32(u32(fixed[countAt:])))
		if n < 0 || n > len(f.b)/size {
			f.short = true
			return list{}
		}
		l := list{n, f.take(n * size)}
		f.take(min(-n*size&7, len(f.b)))
		return l
	}
	gidBytes := int(u16(fixed[54:]))
	gid := terminated(f.take(min(gidBytes, len(f.b))))
	f.take(min(-gidBytes&7, len(f.b)))
	subxacts, commitRelations, abortRelations := part(28, 4), part(32, 12), part(36, 12)
	commitStats, abortStats, invals := part(40, 12), part(44, 12), part(48, invalidationBytes)

	dst = appendTime(fmt.Appendf(dst, "gid %s: ", gid), fixed[16:])
	dst = commitRelations.appendRelations(dst, "rels(commit)")
	dst = abortRelations.appendRelations(dst, "rels(abort)")
	dst = commitStats.appendStats(dst, "commit ")
	dst = abortStats.appendStats(dst, "abort ")
	dst = subxacts.appendSubxacts(dst)
	dst = invals.appendInvalidations(dst, u32(fixed[12:]), 0, fixed[52] != 0)
	if r.HasOrigin && r.Origin != 0 {
		dst = appendOrigin(dst, r.Origin, fixed[56:], fixed[64:])
	}
	if f.short {
		dst = append(dst, " ?"...)
	}
	return dst
}

func (l list) appendRelations(dst []byte, label string) []byte {
	if l.n > 0 {
		dst = fmt.Appendf(dst, "; %s:", label)
	}
	for b := l.b; len(b) > 0; b = b[12:] {
		dst = appendPath(append(dst, ' '), relation(b), wal.ForkMain)
	}
	return dst
}

func (l list) appendSubxacts(dst []byte) []byte {
	if l.n > 0 {
		dst = append(dst, "; subxacts:"...)
	}
	for b := l.b; len(b) > 0; b = b[4:] {
		dst = appendSpaced(dst, b)
	}
	return dst
}

func (l list) appendStats(dst []byte, label string) []byte {
	if l.n > 0 {
		dst = fmt.Appendf(dst, "; %sdropped stats:", label)
	}
	for b := l.b; len(b) > 0; b = b[12:] {
		dst = fmt.Appendf(dst, " %d/%d/%d", int32(u32(b)), u32(b[4:]), u32(b[8:]))
	}
	return dst
}

func (l list) appendInvalidations(dst []byte, db, tablespace uint32, initFile bool) []byte {
	if l.n == 0 {
		return dst
	}
	counted := append([]byte{byte(l.n), byte(l.n >> 8), byte(l.n >> 16), byte(l.n >> 24)}, l.b...)
	return appendInvalidations(dst, &reader{b: counted}, db, tablespace, initFile)
}
