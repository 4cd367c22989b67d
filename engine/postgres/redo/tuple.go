package redo

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// tuple is a heap tuple (HeapTupleHeaderData and what follows), in a page or on its way there.
type tuple []byte

const (
	tupleHeaderBytes = 23
	tupleBytesMax    = page.Bytes - 32 // MaxHeapTupleSize: what the header and a line pointer leave
)

// infomask.
const (
	xmaxKeyShareLock  = 0x0010
	comboCID          = 0x0020
	xmaxExclusiveLock = 0x0040
	xmaxLockOnly      = 0x0080
	xmaxLocks         = xmaxKeyShareLock | xmaxExclusiveLock
	xminFrozen        = 0x0300
	xmaxCommitted     = 0x0400
	xmaxInvalid       = 0x0800
	xmaxIsMulti       = 0x1000
	moved             = 0xC000
	xmaxBits          = xmaxCommitted | xmaxInvalid | xmaxIsMulti | xmaxLocks | xmaxLockOnly
	xactMask          = 0xFFF0
)

// infomask2.
const (
	keysUpdated = 0x2000
	hotUpdated  = 0x4000
)

// Numbers in a tuple's ctid that are none of items.
const (
	speculativeToken = 0xFFFE
	movedPartitions  = 0xFFFD
	noBlock          = 0xFFFFFFFF
)

func (t tuple) setXmin(v uint32)     { binary.LittleEndian.PutUint32(t, v) }
func (t tuple) setXmax(v uint32)     { binary.LittleEndian.PutUint32(t[4:], v) }
func (t tuple) setField3(v uint32)   { binary.LittleEndian.PutUint32(t[8:], v) }
func (t tuple) infomask2() int       { return int(binary.LittleEndian.Uint16(t[18:])) }
func (t tuple) setInfomask2(v int)   { binary.LittleEndian.PutUint16(t[18:], uint16(v)) }
func (t tuple) infomask() int        { return int(binary.LittleEndian.Uint16(t[20:])) }
func (t tuple) setInfomask(v int)    { binary.LittleEndian.PutUint16(t[20:], uint16(v)) }
func (t tuple) dataOffset() int      { return int(t[22]) }
func (t tuple) setDataOffset(v byte) { t[22] = v }
func (t tuple) ctidItem() int        { return int(binary.LittleEndian.Uint16(t[16:])) }

// setCTID points the tuple to a version of itself: a block, its number in two halves, and an item.
func (t tuple) setCTID(block uint32, item int) {
	binary.LittleEndian.PutUint16(t[12:], uint16(block>>16))
	binary.LittleEndian.PutUint16(t[14:], uint16(block))
	binary.LittleEndian.PutUint16(t[16:], uint16(item))
}

// setCommand sets cmin or cmax. Redo knows only the first command.
func (t tuple) setCommand() {
	t.setField3(0)
	t.setInfomask(t.infomask() &^ comboCID)
}

// setLocks sets the bits of xmax from those of a record (XLHL_*).
func (t tuple) setLocks(bits uint8) {
	m, m2 := t.infomask()&^(xmaxBits|moved), t.infomask2()&^keysUpdated
	for i, flag := range []int{xmaxIsMulti, xmaxLockOnly, xmaxExclusiveLock, xmaxKeyShareLock} {
		if bits&(1<<i) != 0 {
			m |= flag
		}
	}
	if bits&(1<<4) != 0 {
		m2 |= keysUpdated
	}
	t.setInfomask(m)
	t.setInfomask2(m2)
}

// onlyLocked reports whether xmax is a lock, not an update or a delete.
func (t tuple) onlyLocked() bool {
	m := t.infomask()
	return m&xmaxLockOnly != 0 || m&(xmaxIsMulti|xmaxLocks) == xmaxExclusiveLock
}

func (t tuple) setHotUpdated(on bool) {
	m := t.infomask2() &^ hotUpdated
	if on {
		m |= hotUpdated
	}
	t.setInfomask2(m)
}

// tupleOf returns the tuple of item n of a page.
func tupleOf(p page.Page, n int) (tuple, error) {
	b, err := p.NormalItem(n)
	if err == nil && len(b) < tupleHeaderBytes {
		err = fmt.Errorf("item %d has %d bytes, a tuple's header alone has %d", n, len(b), tupleHeaderBytes)
	}
	return b, err
}

// header is what a record has of a new tuple's header.
type header struct {
	infomask2, infomask int
	dataOffset          uint8
}

func (f *fields) tupleHeader() header {
	return header{infomask2: f.u16(), infomask: f.u16(), dataOffset: f.U8()}
}

// addTuple puts a tuple, inserted by the record's transaction, at line pointer item: made in the page itself, of the parts of its body.
func (c *change) addTuple(item int, h header, parts ...[]byte) (tuple, error) {
	n := tupleHeaderBytes
	for _, b := range parts {
		n += len(b)
	}
	if n > tupleBytesMax {
		return nil, fmt.Errorf("a tuple of %d bytes; a page has room for %d", n, tupleBytesMax)
	}
	b, err := c.p.NewItem(item, n)
	if err != nil {
		return nil, err
	}
	t := tuple(b)
	clear(t[:tupleHeaderBytes])
	at := tupleHeaderBytes
	for _, b := range parts {
		at += copy(t[at:], b)
	}
	t.setInfomask2(h.infomask2)
	t.setInfomask(h.infomask)
	t.setDataOffset(h.dataOffset)
	t.setXmin(c.r.XID)
	t.setCTID(c.b.Number, item)
	t.setCommand()
	return t, nil
}

// setPrunable notes that pruning may help once xid is seen as ended by all.
func setPrunable(p page.Page, xid uint32) {
	if old := p.PruneXID(); old == 0 || wal.XIDPrecedes(xid, old) {
		p.SetPruneXID(xid)
	}
}
