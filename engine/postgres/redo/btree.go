package redo

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/logcore/logcore/engine/postgres/page"
)

// Btree's operations.
const (
	btreeInsertLeaf     = 0x00
	btreeInsertUpper    = 0x10
	btreeInsertMeta     = 0x20
	btreeSplitLeft      = 0x30 // the new item goes to the left page
	btreeSplitRight     = 0x40
	btreeInsertPosting  = 0x50
	btreeDedup          = 0x60
	btreeDelete         = 0x70
	btreeUnlinkPage     = 0x80
	btreeUnlinkPageMeta = 0x90
	btreeNewRoot        = 0xA0
	btreeMarkHalfDead   = 0xB0
	btreeVacuum         = 0xC0
	btreeMetaCleanup    = 0xE0
)

// Flags of a page's special area.
const (
	btreeLeaf            = 1 << 0
	btreeRoot            = 1 << 1
	btreeDeleted         = 1 << 2
	btreeMeta            = 1 << 3
	btreeHalfDead        = 1 << 4
	btreeSplitEnd        = 1 << 5
	btreeHasGarbage      = 1 << 6
	btreeIncompleteSplit = 1 << 7
	btreeHasFullXID      = 1 << 8

	btreeSpecialBytes = 16
	btreeHighKey      = 1 // item number of the high key, on pages that have a right sibling
)

// opaque is a page's special area (BTPageOpaqueData).
type opaque []byte

func (o opaque) setPrev(v uint32)  { binary.LittleEndian.PutUint32(o, v) }
func (o opaque) next() uint32      { return binary.LittleEndian.Uint32(o[4:]) }
func (o opaque) setNext(v uint32)  { binary.LittleEndian.PutUint32(o[4:], v) }
func (o opaque) setLevel(v uint32) { binary.LittleEndian.PutUint32(o[8:], v) }
func (o opaque) flags() uint16     { return binary.LittleEndian.Uint16(o[12:]) }
func (o opaque) setFlags(v uint16) { binary.LittleEndian.PutUint16(o[12:], v) }
func (o opaque) setCycle(v uint16) { binary.LittleEndian.PutUint16(o[14:], v) }

// firstData returns the number of the first item behind the high key.
func (o opaque) firstData() int {
	if o.next() == 0 {
		return btreeHighKey
	}
	return btreeHighKey + 1
}

func opaqueOf(p page.Page) (opaque, error) { return p.SpecialArea(btreeSpecialBytes) }

// initBtree makes an empty page and returns its special area.
func initBtree(p page.Page, prev, next, level uint32, flags uint16) {
	p.Init(btreeSpecialBytes)
	o := opaque(p[p.Special():])
	o.setPrev(prev)
	o.setNext(next)
	o.setLevel(level)
	o.setFlags(flags)
}

func leafFlag(level uint32) uint16 {
	if level == 0 {
		return btreeLeaf
	}
	return 0
}

func redoBtree(c *change) (bool, error) {
	switch c.op {
	case btreeInsertLeaf, btreeInsertUpper, btreeInsertMeta, btreeInsertPosting:
		return true, c.btreeInsert()
	case btreeSplitLeft, btreeSplitRight:
		return true, c.btreeSplit()
	case btreeDedup:
		return true, c.btreeDedup()
	case btreeDelete, btreeVacuum:
		return true, c.btreeDelete()
	case btreeUnlinkPage, btreeUnlinkPageMeta:
		return true, c.btreeUnlink()
	case btreeNewRoot:
		return true, c.btreeNewRoot()
	case btreeMarkHalfDead:
		return true, c.btreeHalfDead()
	case btreeMetaCleanup:
		return true, c.btreeMeta()
	}
	return c.unknown()
}

// btreeInsert: block 0 gets the item; block 1, a child whose split this completes, loses
// its mark; block 2 is the meta page.
func (c *change) btreeInsert() error {
	switch c.b.ID {
	case 1:
		return c.clearIncompleteSplit()
	case 2:
		return c.btreeMeta()
	}
	item := c.main.u16()
	if c.op != btreeInsertPosting {
		return c.p.InsertItem(item, c.data.Rest())
	}
	split := c.data.u16()
	added := indexTuple(append([]byte(nil), c.data.Rest()...))
	posting, err := postingAt(c.p, item-1)
	if err != nil {
		return err
	}
	changed, err := swapPosting(added, posting, split)
	if err != nil {
		return err
	}
	copy(posting, changed)
	return c.p.InsertItem(item, added)
}

func (c *change) clearIncompleteSplit() error {
	o, err := opaqueOf(c.p)
	if err != nil {
		return err
	}
	o.setFlags(o.flags() &^ btreeIncompleteSplit)
	return nil
}

// btreeMeta makes the meta page anew.
func (c *change) btreeMeta() error {
	const magic, metaBytes = 0x053162, 48
	initBtree(c.p, 0, 0, 0, btreeMeta)
	m := c.p.Content()[:metaBytes]
	binary.LittleEndian.PutUint32(m, magic)
	copy(m[4:], c.data.Take(24)) // version, root, level, fast root, its level, pages deleted by the last cleanup
	binary.LittleEndian.PutUint64(m[32:], math.Float64bits(-1))
	m[40] = c.data.U8()
	c.p.SetLower(c.p.Lower() + metaBytes)
	return nil
}

// restoreItems adds the items that a record has in one piece, the last one first.
func restoreItems(p page.Page, b []byte) error {
	var items [][]byte
	for len(b) > 0 {
		t, rest, err := cutTuple(b)
		if err != nil {
			return err
		}
		items = append(items, t)
		b = rest
	}
	for i := len(items) - 1; i >= 0; i-- {
		if err := p.AddItem(len(items)-i, items[i]); err != nil {
			return err
		}
	}
	return nil
}

// btreeSplit: block 0 keeps the left half, block 1 is the new right page, block 2 the page right of
// it, block 3 a child whose split this completes.
func (c *change) btreeSplit() error {
	level := c.main.U32()
	switch c.b.ID {
	case 0:
		return c.splitLeft(level)
	case 1:
		left, right := c.r.Block(0), c.r.Block(2)
		if left == nil {
			return fmt.Errorf("a split without the left page")
		}
		next := uint32(0)
		if right != nil {
			next = right.Number
		}
		initBtree(c.p, left.Number, next, level, leafFlag(level))
		return restoreItems(c.p, c.data.Rest())
	case 2:
		right := c.r.Block(1)
		o, err := opaqueOf(c.p)
		if err != nil || right == nil {
			return fmt.Errorf("a split without the right page: %w", err)
		}
		o.setPrev(right.Number)
		return nil
	default:
		return c.clearIncompleteSplit()
	}
}

// splitLeft makes the left page of a split from the page that was split.
func (c *change) splitLeft(level uint32) error {
	firstRight, newAt, split := c.main.u16(), c.main.u16(), c.main.u16()
	newOnLeft := c.op == btreeSplitLeft
	right := c.r.Block(1)
	o, err := opaqueOf(c.p)
	if err != nil || right == nil {
		return fmt.Errorf("a split without the right page: %w", err)
	}
	var added, replaced indexTuple
	replacedAt := 0
	if newOnLeft || split != 0 {
		if added, c.data.B, err = cutTuple(c.data.B); err != nil {
			return err
		}
		if split != 0 {
			replacedAt = newAt - 1
			posting, err := postingAt(c.p, replacedAt)
			if err != nil {
				return err
			}
			added = append(indexTuple(nil), added...)
			if replaced, err = swapPosting(added, posting, split); err != nil {
				return err
			}
		}
	}
	highKey, rest, err := cutTuple(c.data.B)
	if err != nil || len(rest) != 0 {
		return fmt.Errorf("%d bytes behind the high key: %w", len(rest), err)
	}
	left := newCopy(c.p)
	if err := left.add(highKey); err != nil {
		return err
	}
	for n := o.firstData(); n <= firstRight; n++ {
		if newOnLeft && n == newAt {
			if err := left.add(added); err != nil {
				return err
			}
		}
		if n == firstRight {
			break
		}
		item, err := c.p.Item(n)
		if n == replacedAt {
			item = replaced
		}
		if err != nil {
			return err
		}
		if err := left.add(item); err != nil {
			return err
		}
	}
	copy(c.p, left.p)
	o.setFlags(btreeIncompleteSplit | leafFlag(level))
	o.setNext(right.Number)
	o.setCycle(0)
	return nil
}

// pageCopy is a page built beside the old one, with its special area.
type pageCopy struct{ p page.Page }

func newCopy(old page.Page) pageCopy {
	p := page.Page(make([]byte, page.Bytes))
	p.Init(page.Bytes - old.Special())
	copy(p[p.Special():], old[old.Special():])
	return pageCopy{p}
}

// add puts an item behind the last.
func (c pageCopy) add(item []byte) error { return c.p.AddItem(c.p.Items()+1, item) }

// btreeDelete removes items, and heap tuples from posting lists. DELETE and VACUUM differ only in what is before.
func (c *change) btreeDelete() error {
	if c.op == btreeDelete {
		c.main.U32()
	}
	deleted, updated := c.main.u16(), c.main.u16()
	gone, changed := c.data.numbers(deleted), c.data.numbers(updated)
	for _, n := range changed {
		t, err := postingAt(c.p, n)
		if err != nil {
			return err
		}
		if t, err = t.without(c.data.numbers(c.data.u16())); err != nil {
			return err
		}
		if err := c.p.OverwriteItem(n, t); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		if err := c.p.DeleteItems(gone); err != nil {
			return err
		}
	}
	o, err := opaqueOf(c.p)
	if err != nil {
		return err
	}
	o.setFlags(o.flags() &^ btreeHasGarbage)
	return nil
}

// btreeHalfDead: block 0 becomes a half-dead leaf, block 1, its parent, loses the link to it.
func (c *change) btreeHalfDead() error {
	item := c.main.u16()
	c.main.u16() // padding
	c.main.U32()
	left, right, topParent := c.main.U32(), c.main.U32(), c.main.U32()
	if c.b.ID == 0 {
		return halfDeadLeaf(c.p, left, right, topParent)
	}
	next, err := c.p.Item(item + 1)
	if err != nil {
		return err
	}
	link, err := c.p.Item(item)
	if err != nil || len(next) < indexTupleHeaderBytes || len(link) < indexTupleHeaderBytes {
		return fmt.Errorf("a parent with items of %d and %d bytes: %w", len(link), len(next), err)
	}
	indexTuple(link).setBlock(indexTuple(next).block())
	return c.p.DeleteItem(item + 1)
}

// halfDeadLeaf makes an empty leaf whose high key remembers the topmost parent that goes with it.
func halfDeadLeaf(p page.Page, left, right, topParent uint32) error {
	initBtree(p, left, right, 0, btreeHalfDead|btreeLeaf)
	key := indexTuple(make([]byte, indexTupleHeaderBytes))
	key.setInfo(indexTupleHeaderBytes | indexAltTID)
	key.setBlock(topParent)
	return p.AddItem(btreeHighKey, key)
}

// btreeUnlink: block 0 is deleted, block 1 was left of it, block 2 is right of it; block 3 is the half-dead
// leaf below; block 4 is the meta page.
func (c *change) btreeUnlink() error {
	left, right, level := c.main.U32(), c.main.U32(), c.main.U32()
	c.main.U32() // padding
	safeXID := c.main.Take(8)
	leafLeft, leafRight, topParent := c.main.U32(), c.main.U32(), c.main.U32()
	switch c.b.ID {
	case 0:
		initBtree(c.p, left, right, level, btreeDeleted|btreeHasFullXID|leafFlag(level))
		copy(c.p.Content(), safeXID)
		c.p.SetLower(c.p.Lower() + len(safeXID))
		c.p.SetUpper(c.p.Special())
		return nil
	case 1, 2:
		o, err := opaqueOf(c.p)
		if err != nil {
			return err
		}
		if c.b.ID == 1 {
			o.setNext(right)
		} else {
			o.setPrev(left)
		}
		return nil
	case 3:
		return halfDeadLeaf(c.p, leafLeft, leafRight, topParent)
	default:
		return c.btreeMeta()
	}
}

// btreeNewRoot: block 0 is the root, block 1 its left child, whose split this completes,
// block 2 the meta page.
func (c *change) btreeNewRoot() error {
	c.main.U32()
	level := c.main.U32()
	switch c.b.ID {
	case 0:
		initBtree(c.p, 0, 0, level, btreeRoot|leafFlag(level))
		return restoreItems(c.p, c.data.Rest())
	case 1:
		return c.clearIncompleteSplit()
	default:
		return c.btreeMeta()
	}
}
