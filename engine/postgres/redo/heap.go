package redo

import (
	"fmt"

	"github.com/logcore/logcore/engine/postgres/page"
)

// Heap's operations; initPage is a flag beside them.
const (
	heapInsert    = 0x00
	heapDelete    = 0x10
	heapUpdate    = 0x20
	heapTruncate  = 0x30
	heapHotUpdate = 0x40
	heapConfirm   = 0x50
	heapLock      = 0x60
	heapInplace   = 0x70
	initPage      = 0x80
)

// Flags of the records.
const (
	insertAllVisibleCleared    = 1 << 0
	insertAllFrozenSet         = 1 << 5
	deleteAllVisibleCleared    = 1 << 0
	deleteIsSuper              = 1 << 3 // of a speculative insertion
	deleteIsPartitionMove      = 1 << 4
	updateOldAllVisibleCleared = 1 << 0
	updateNewAllVisibleCleared = 1 << 1
	updatePrefixFromOld        = 1 << 5
	updateSuffixFromOld        = 1 << 6
	lockAllFrozenCleared       = 1 << 0
)

func redoHeap(c *change) (bool, error) {
	switch c.op &^ initPage {
	case heapInsert:
		return true, c.insert()
	case heapDelete:
		return true, c.delete()
	case heapUpdate, heapHotUpdate:
		return true, c.update()
	case heapConfirm:
		return true, c.confirm()
	case heapLock:
		return true, c.lock()
	case heapInplace:
		return true, c.inplace()
	}
	return c.unknown() // heapTruncate is for logical decoding and has no block
}

// mayInit makes the page anew when the record says that it does.
func (c *change) mayInit() bool {
	if c.op&initPage == 0 {
		return false
	}
	c.p.Init(0)
	return true
}

func (c *change) insert() error {
	item, flags := c.main.u16(), c.main.U8()
	c.mayInit()
	h := c.data.tupleHeader()
	if _, err := c.addTuple(item, h, c.data.Rest()); err != nil {
		return err
	}
	if flags&insertAllVisibleCleared != 0 {
		c.p.SetFlag(page.AllVisible, false)
	}
	return nil
}

func (c *change) delete() error {
	xmax, item, bits, flags := c.main.U32(), c.main.u16(), c.main.U8(), c.main.U8()
	t, err := tupleOf(c.p, item)
	if err != nil {
		return err
	}
	t.setLocks(bits)
	t.setHotUpdated(false)
	if flags&deleteIsSuper != 0 {
		t.setXmin(0)
	} else {
		t.setXmax(xmax)
	}
	t.setCommand()
	setPrunable(c.p, c.r.XID)
	if flags&deleteAllVisibleCleared != 0 {
		c.p.SetFlag(page.AllVisible, false)
	}
	if flags&deleteIsPartitionMove != 0 {
		t.setCTID(noBlock, movedPartitions)
	} else {
		t.setCTID(c.b.Number, item)
	}
	return nil
}

// updateRecord is what an UPDATE or HOT_UPDATE record says.
type updateRecord struct {
	oldXmax        uint32
	oldItem        int
	oldBits, flags uint8
	newXmax        uint32
	newItem        int
}

// update changes the page of the old version, of the new one, or of both. Block 0 is the new
// one's; block 1 is the old one's when that is another page.
func (c *change) update() error {
	u := updateRecord{oldXmax: c.main.U32(), oldItem: c.main.u16(), oldBits: c.main.U8(), flags: c.main.U8(), newXmax: c.main.U32(), newItem: c.main.u16()}
	newBlock := c.r.Block(0)
	if newBlock == nil {
		return fmt.Errorf("an update without the page of the new version")
	}
	samePage := c.r.Block(1) == nil
	var old tuple
	if samePage || c.b.ID == 1 {
		var err error
		if old, err = c.updateOld(u, newBlock.Number); err != nil {
			return err
		}
	}
	if c.b.ID == 0 {
		return c.updateNew(u, old)
	}
	return nil
}

func (c *change) updateOld(u updateRecord, newBlock uint32) (tuple, error) {
	t, err := tupleOf(c.p, u.oldItem)
	if err != nil {
		return nil, err
	}
	t.setLocks(u.oldBits)
	t.setHotUpdated(c.op&^initPage == heapHotUpdate)
	t.setXmax(u.oldXmax)
	t.setCommand()
	t.setCTID(newBlock, u.newItem)
	setPrunable(c.p, c.r.XID)
	if u.flags&updateOldAllVisibleCleared != 0 {
		c.p.SetFlag(page.AllVisible, false)
	}
	return t, nil
}

// updateNew adds the new version. Where its data begins or ends like the old one's, on the
// same page, the record has only the length of that.
func (c *change) updateNew(u updateRecord, old tuple) error {
	if old == nil {
		c.mayInit()
	}
	var prefix, suffix int
	if u.flags&updatePrefixFromOld != 0 {
		prefix = c.data.u16()
	}
	if u.flags&updateSuffixFromOld != 0 {
		suffix = c.data.u16()
	}
	h := c.data.tupleHeader()
	var parts [4][]byte
	if prefix > 0 {
		if old == nil || old.dataOffset()+prefix > len(old) {
			return fmt.Errorf("the new version takes %d bytes from an old one of %d", prefix, len(old))
		}
		parts[0] = c.data.Take(int(h.dataOffset) - tupleHeaderBytes) // the bitmap of nulls
		parts[1] = old[old.dataOffset() : old.dataOffset()+prefix]
	}
	parts[2] = c.data.Rest()
	if suffix > 0 {
		if old == nil || suffix > len(old) {
			return fmt.Errorf("the new version takes the last %d bytes of an old one of %d", suffix, len(old))
		}
		parts[3] = old[len(old)-suffix:]
	}
	t, err := c.addTuple(u.newItem, h, parts[:]...)
	if err != nil {
		return err
	}
	t.setXmax(u.newXmax)
	if u.flags&updateNewAllVisibleCleared != 0 {
		c.p.SetFlag(page.AllVisible, false)
	}
	return nil
}

// confirm makes a speculative insertion a real one.
func (c *change) confirm() error {
	item := c.main.u16()
	t, err := tupleOf(c.p, item)
	if err != nil {
		return err
	}
	t.setCTID(c.b.Number, item)
	return nil
}

func (c *change) lock() error {
	xid, item, bits := c.main.U32(), c.main.u16(), c.main.U8()
	t, err := tupleOf(c.p, item)
	if err != nil {
		return err
	}
	t.setLocks(bits)
	if t.onlyLocked() {
		t.setHotUpdated(false)
		t.setCTID(c.b.Number, item)
	}
	t.setXmax(xid)
	t.setCommand()
	return nil
}

// inplace overwrites a tuple's data, as the statistics in pg_class are.
func (c *change) inplace() error {
	t, err := tupleOf(c.p, c.main.u16())
	if err != nil {
		return err
	}
	data := c.data.Rest()
	if t.dataOffset()+len(data) != len(t) {
		return fmt.Errorf("%d bytes take the place of a tuple's %d", len(data), len(t)-t.dataOffset())
	}
	copy(t[t.dataOffset():], data)
	return nil
}
