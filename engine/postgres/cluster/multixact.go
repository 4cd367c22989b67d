package cluster

import (
	"encoding/binary"

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

func (c *Cluster) applyMultiXact(r *wal.Record, f *fields) error {
	const zeroOffsets, zeroMembers, create, truncate = 0x00, 0x10, 0x20, 0x30
	switch r.Op() {
	case zeroOffsets:
		return c.zeroOffsets(f.u32())
	case zeroMembers:
		return c.zero(members, f.u32())
	case create:
		return c.createMulti(f)
	case truncate:
		db := f.u32()
		f.u32()
		endOffsets, fromMembers, toMembers := f.u32(), f.u32(), f.u32()
		c.OldestMulti, c.OldestMulDB = endOffsets, db
		return c.truncateMulti(endOffsets, fromMembers, toMembers)
	}
	return nil
}

// zeroOffsets makes a page of offsets anew. Its first entry may have been set already: with
// the multixact before it, whose end it is.
func (c *Cluster) zeroOffsets(n uint32) error {
	return c.update(offsets, n, func(p page.Page) {
		if first := c.NextMulti; first%offsets.perPage <= firstMulti && first/offsets.perPage == n {
			keep := binary.LittleEndian.Uint32(p[first%offsets.perPage*4:])
			clear(p)
			binary.LittleEndian.PutUint32(p[first%offsets.perPage*4:], keep)
			return
		}
		clear(p)
	})
}

// createMulti stores a multixact: where its members begin and, as the beginning of the
// next one, where they end; and the members.
func (c *Cluster) createMulti(f *fields) error {
	id, at, n := f.u32(), f.u32(), f.u32()
	if n > membersMax || int(n)*8 > len(f.b) {
		f.short = true
		return nil
	}
	next, end := max(id+1, firstMulti), at+n
	if end == 0 {
		end = 1 // 0 says that an offset was never set
	}
	for _, o := range []struct{ multi, offset uint32 }{{id, at}, {next, end}} {
		err := c.update(offsets, o.multi/offsets.perPage, func(p page.Page) {
			binary.LittleEndian.PutUint32(p[o.multi%offsets.perPage*offsets.entryBytes:], o.offset)
		})
		if err != nil {
			return err
		}
	}
	for i := range n {
		xid, status := f.u32(), f.u32()
		c.advanceXID(xid)
		if err := c.setMember(at+i, xid, byte(status)); err != nil {
			return err
		}
	}
	if int32(next-c.NextMulti) > 0 || c.NextMulti == 0 {
		c.NextMulti = next
	}
	if int32(at+n-c.NextOffset) > 0 {
		c.NextOffset = at + n
	}
	return nil
}

func (c *Cluster) setMember(offset, xid uint32, status byte) error {
	return c.update(members, offset/members.perPage, func(p page.Page) {
		group := offset % members.perPage / memberGroup * memberGroupBytes
		p[group+offset%memberGroup] = status
		binary.LittleEndian.PutUint32(p[group+memberGroup+offset%memberGroup*4:], xid)
	})
}

// truncateMulti removes what is before the oldest multixact.
func (c *Cluster) truncateMulti(oldest, fromMembers, toMembers uint32) error {
	const last = ^uint32(0) / (memberGroups * memberGroup) / slruFilePages
	perFile := members.perPage * slruFilePages
	for file, end := fromMembers/perFile, toMembers/perFile; file != end; {
		if err := c.remove(members.name(file * slruFilePages)); err != nil {
			return err
		}
		if file++; file > last {
			file = 0
		}
	}
	before := oldest - 1
	if oldest <= firstMulti {
		before = ^uint32(0)
	}
	return c.truncateSLRU(offsets, before/offsets.perPage)
}
