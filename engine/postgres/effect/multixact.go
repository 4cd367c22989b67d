package effect

import (
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

const (
	firstMulti = 1
	// Members of multixacts are kept in groups of four: four bytes of flags, then four ids.
	memberGroup      = 4
	memberGroupBytes = 20
	memberGroups     = page.Bytes / memberGroupBytes
	membersMax       = 1 << 20 // of one multixact: far more than a server lets run at once
)

func (i *Interpreter) applyMultiXact(r *wal.Record, f *wal.Fields) error {
	const zeroOffsets, zeroMembers, create, truncate = 0x00, 0x10, 0x20, 0x30
	switch r.Op() {
	case zeroOffsets:
		return i.zeroOffsets(f.U32())
	case zeroMembers:
		return i.zero(Members, f.U32())
	case create:
		return i.createMulti(f)
	case truncate:
		db := f.U32()
		f.U32()
		endOffsets, fromMembers, toMembers := f.U32(), f.U32(), f.U32()
		i.OldestMulti, i.OldestMulDB = endOffsets, db
		return i.truncateMulti(endOffsets, fromMembers, toMembers)
	}
	return nil
}

// zeroOffsets makes a page of offsets anew. Its first entry may have been set already: with
// the multixact before it, whose end it is.
func (i *Interpreter) zeroOffsets(n uint32) error {
	first := i.NextMulti
	if first%offsetsPerPage > firstMulti || first/offsetsPerPage != n {
		return i.zero(Offsets, n)
	}
	at := int(first % offsetsPerPage * offsetBytes)
	return i.Sink.EditSLRU(Offsets, n, page.Edit(i.buffer()).Clear(0, at).Clear(at+offsetBytes, page.Bytes), false)
}

// createMulti stores a multixact: where its members begin and, as the beginning of the
// next one, where they end; and the members.
func (i *Interpreter) createMulti(f *wal.Fields) error {
	id, at, n := f.U32(), f.U32(), f.U32()
	if n > membersMax || int(n)*8 > len(f.B) {
		f.Short = true
		return nil
	}
	next, end := max(id+1, firstMulti), at+n
	if end == 0 {
		end = 1 // 0 says that an offset was never set
	}
	for _, o := range []struct{ multi, offset uint32 }{{id, at}, {next, end}} {
		e := page.Edit(i.buffer()).WriteU32(int(o.multi%offsetsPerPage*offsetBytes), o.offset)
		if err := i.Sink.EditSLRU(Offsets, o.multi/offsetsPerPage, e, false); err != nil {
			return err
		}
	}
	for k := range n {
		xid, status := f.U32(), f.U32()
		i.advanceXID(xid)
		if err := i.setMember(at+k, xid, byte(status)); err != nil {
			return err
		}
	}
	if int32(next-i.NextMulti) > 0 || i.NextMulti == 0 {
		i.NextMulti = next
	}
	if int32(at+n-i.NextOffset) > 0 {
		i.NextOffset = at + n
	}
	return nil
}

func (i *Interpreter) setMember(offset, xid uint32, status byte) error {
	group, n := int(offset%membersPerPage/memberGroup*memberGroupBytes), int(offset%memberGroup)
	e := page.Edit(i.buffer()).Bits(group+n, 0, status).WriteU32(group+memberGroup+4*n, xid)
	return i.Sink.EditSLRU(Members, offset/membersPerPage, e, false)
}

// truncateMulti removes what is before the oldest multixact.
func (i *Interpreter) truncateMulti(oldest, fromMembers, toMembers uint32) error {
	const perSegment = membersPerPage * SegmentPages
	const segments = ^uint32(0)/perSegment + 1
	from, to := fromMembers/perSegment, toMembers/perSegment
	err := i.Sink.DropSegments(Members, func(segment uint32) bool { // [from, to) of a circle
		return (segment+segments-from)%segments < (to+segments-from)%segments
	})
	if err != nil {
		return err
	}
	before := oldest - 1
	if oldest <= firstMulti {
		before = ^uint32(0)
	}
	return i.truncateSLRU(Offsets, before/offsetsPerPage)
}
