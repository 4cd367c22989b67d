package redo

import (
	"fmt"

	"github.com/logcore/logcore/engine/postgres/page"
)

// Heap2's operations.
const (
	heap2Prune       = 0x10
	heap2Vacuum      = 0x20
	heap2Freeze      = 0x30
	heap2Visible     = 0x40
	heap2MultiInsert = 0x50
	heap2LockUpdated = 0x60
)

func redoHeap2(c *change) (bool, error) {
	switch c.op &^ initPage {
	case heap2Prune:
		return true, c.prune()
	case heap2Vacuum:
		return true, c.vacuum()
	case heap2Freeze:
		return true, c.freeze()
	case heap2Visible:
		return c.visible()
	case heap2MultiInsert:
		return true, c.multiInsert()
	case heap2LockUpdated:
		return true, c.lockUpdated()
	}
	return c.unknown() // REWRITE and NEW_CID are for logical decoding
}

// prune redirects, kills and frees line pointers, then closes the gaps.
func (c *change) prune() error {
	c.main.U32()
	redirected, dead := c.main.u16(), c.main.u16()
	for range redirected {
		from, to := c.data.u16(), c.data.u16()
		if err := c.p.SetItemID(from, page.MakeItemID(to, page.Redirect, 0)); err != nil {
			return err
		}
	}
	for range dead {
		if err := c.p.SetItemID(c.data.u16(), page.MakeItemID(0, page.Dead, 0)); err != nil {
			return err
		}
	}
	if err := c.free(len(c.data.B) / 2); err != nil {
		return err
	}
	return c.p.RepairFragmentation()
}

// free makes the next n line pointers of the block's data unused.
func (c *change) free(n int) error {
	for range n {
		if err := c.p.SetItemID(c.data.u16(), 0); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) vacuum() error {
	if err := c.free(c.main.u16()); err != nil {
		return err
	}
	return c.p.TruncateItems()
}

func (c *change) freeze() error {
	const xvacFrozen, xvacInvalid, frozenXID = 0x02, 0x04, 2
	c.main.U32()
	for range c.main.u16() {
		xmax, item, infomask2, infomask, flags := c.data.U32(), c.data.u16(), c.data.u16(), c.data.u16(), c.data.U8()
		c.data.U8() // padding
		t, err := tupleOf(c.p, item)
		if err != nil {
			return err
		}
		t.setXmax(xmax)
		if flags&xvacFrozen != 0 {
			t.setField3(frozenXID)
		}
		if flags&xvacInvalid != 0 {
			t.setField3(0)
		}
		t.setInfomask(infomask)
		t.setInfomask2(infomask2)
	}
	return nil
}

// visible marks a heap page, block 1, as visible to all in itself and, block 0, in the visibility map.
func (c *change) visible() (bool, error) {
	c.main.U32()
	flags := c.main.U8()
	if c.b.ID == 1 {
		c.p.SetFlag(page.AllVisible, true)
		c.keepLSN = !c.HintBitsLogged
		return true, nil
	}
	heap := c.r.Block(1)
	if heap == nil {
		return false, fmt.Errorf("a visibility map's page without the heap page")
	}
	if c.p.IsNew() {
		c.p.Init(0)
	}
	c.keepLSN = !setVisible(c.p, heap.Number, flags&visibilityBits)
	return true, nil
}

func (c *change) multiInsert() error {
	flags := c.main.U8()
	c.main.U8()
	n := c.main.u16()
	init := c.mayInit()
	at := len(c.data.B)
	for i := range n {
		item := i + 1
		if !init {
			item = c.main.u16()
		}
		if (at-len(c.data.B))%2 != 0 {
			c.data.U8() // each begins at an even offset
		}
		bytes := c.data.u16()
		h := c.data.tupleHeader()
		if _, err := c.addTuple(item, h, c.data.Take(bytes)); err != nil {
			return err
		}
	}
	if len(c.data.B) != 0 {
		return fmt.Errorf("%d bytes follow the last of %d tuples", len(c.data.B), n)
	}
	if flags&insertAllVisibleCleared != 0 {
		c.p.SetFlag(page.AllVisible, false)
	}
	if flags&insertAllFrozenSet != 0 {
		c.p.SetFlag(page.AllVisible, true)
	}
	return nil
}

// lockUpdated locks a version that a later update made.
func (c *change) lockUpdated() error {
	xmax, item, bits := c.main.U32(), c.main.u16(), c.main.U8()
	t, err := tupleOf(c.p, item)
	if err != nil {
		return err
	}
	t.setLocks(bits)
	t.setXmax(xmax)
	return nil
}
