package redo

import (
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// A visibility map has two bits for each heap page: all its tuples are visible to
// everybody, and all are frozen.
const (
	visibilityVisible = 1
	visibilityFrozen  = 2
	visibilityBits    = visibilityVisible | visibilityFrozen

	heapPagesPerByte    = 4
	heapPagesPerMapPage = (page.Bytes - 24) * heapPagesPerByte
)

// setVisible sets a heap page's bits and reports whether that changed anything.
func setVisible(p page.Page, heapPage uint32, bits uint8) bool {
	at, shift := mapPlace(heapPage)
	if p.Content()[at]>>shift&visibilityBits == bits {
		return false
	}
	p.Content()[at] |= bits << shift
	return true
}

// VisibilityOf returns the two bits of a heap page in p, the page of the visibility map that has them.
func VisibilityOf(p page.Page, heapPage uint32) uint8 {
	at, shift := mapPlace(heapPage)
	return p.Content()[at] >> shift & visibilityBits
}

func mapPlace(heapPage uint32) (at int, shift uint) {
	n := heapPage % heapPagesPerMapPage
	return int(n / heapPagesPerByte), uint(n%heapPagesPerByte) * 2
}

// Cleared is a change of a visibility map that a record makes without naming the map's
// page among its blocks.
type Cleared struct {
	Relation wal.Relation
	MapPage  uint32 // of the fork ForkVM
	HeapPage uint32
	bits     uint8
}

// Edit appends to e what clears the bits. It moves no LSN, as the server doesn't, so it must be made in the order of the
// records; making it again does no harm. A page that was never written has nothing to clear.
func (v Cleared) Edit(e page.Edit) page.Edit {
	at, shift := mapPlace(v.HeapPage)
	return e.Bits(page.HeaderBytes+at, ^(v.bits << shift), 0)
}

// Apply clears the bits.
func (v Cleared) Apply(p page.Page) {
	at, shift := mapPlace(v.HeapPage)
	p.Content()[at] &^= v.bits << shift
}

// VisibilityCleared returns what a record clears in visibility maps, at most two changes.
func VisibilityCleared(r *wal.Record) (changes [2]Cleared, n int) {
	clear := func(id uint8, bits uint8) {
		if b := r.Block(id); b != nil {
			changes[n] = Cleared{b.Relation, b.Number / heapPagesPerMapPage, b.Number, bits}
			n++
		}
	}
	f := wal.Fields{B: r.Data}
	op := r.Op() &^ initPage
	switch {
	case r.Manager == wal.ManagerHeap && op == heapInsert:
		if f.U16(); f.U8()&insertAllVisibleCleared != 0 {
			clear(0, visibilityBits)
		}
	case r.Manager == wal.ManagerHeap2 && op == heap2MultiInsert:
		if f.U8()&insertAllVisibleCleared != 0 {
			clear(0, visibilityBits)
		}
	case r.Manager == wal.ManagerHeap && op == heapDelete:
		if f.Take(7); f.U8()&deleteAllVisibleCleared != 0 {
			clear(0, visibilityBits)
		}
	case r.Manager == wal.ManagerHeap && (op == heapUpdate || op == heapHotUpdate):
		f.Take(7)
		flags := f.U8()
		if flags&updateOldAllVisibleCleared != 0 {
			old := uint8(1)
			if r.Block(1) == nil {
				old = 0
			}
			clear(old, visibilityBits)
		}
		if flags&updateNewAllVisibleCleared != 0 {
			clear(0, visibilityBits)
		}
	case r.Manager == wal.ManagerHeap && op == heapLock, r.Manager == wal.ManagerHeap2 && op == heap2LockUpdated:
		if f.Take(7); f.U8()&lockAllFrozenCleared != 0 {
			clear(0, visibilityFrozen)
		}
	}
	return changes, n
}
