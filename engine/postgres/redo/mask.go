package redo

import (
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Mask makes two images of a page comparable: it overwrites what may differ between the
// server that wrote a record and one that redoes it, as wal_consistency_checking does. It
// changes p, the page with that number of a relation that manager m wrote to.
func Mask(m wal.Manager, p page.Page, number uint32) {
	p.SetLSN(0)
	p.SetChecksum(0)
	lower, upper, special := p.Lower(), p.Upper(), p.Special()
	if lower > upper || upper > special || lower < 24 || special > page.Bytes {
		return // compared as it is
	}
	clear(p[lower:upper])
	if m == wal.ManagerSequence || m == wal.ManagerGeneric {
		return
	}
	p.SetPruneXID(0)
	p.SetFlag(page.Full|page.HasFreeLines|page.AllVisible, false)
	switch m {
	case wal.ManagerHeap, wal.ManagerHeap2:
		maskHeap(p, number)
	case wal.ManagerBtree:
		maskBtree(p)
	}
}

// maskHeap overwrites hints, command ids, speculative tokens and padding.
func maskHeap(p page.Page, number uint32) {
	for n := 1; n <= p.Items(); n++ {
		id, err := p.ItemID(n)
		if err != nil || id.Length() == 0 || id.Offset()+id.Length() > page.Bytes {
			continue
		}
		item := p[id.Offset() : id.Offset()+id.Length()]
		if t := tuple(item); id.State() == page.Normal && len(t) >= tupleHeaderBytes {
			if t.infomask()&xminFrozen != xminFrozen {
				t.setInfomask(t.infomask() &^ xactMask)
			} else {
				t.setInfomask(t.infomask() &^ (xmaxInvalid | xmaxCommitted))
			}
			t.setField3(0)
			if t.ctidItem() == speculativeToken {
				t.setCTID(number, n)
			}
		}
		clear(p[id.Offset()+id.Length() : min(alignTuple(id.Offset()+id.Length()), page.Bytes)])
	}
}

// maskBtree overwrites the marks of dead items on leaves, and what vacuum leaves to itself.
func maskBtree(p page.Page) {
	o, err := opaqueOf(p)
	if err != nil {
		return
	}
	if o.flags()&btreeLeaf != 0 {
		for n := 1; n <= p.Items(); n++ {
			if id, err := p.ItemID(n); err == nil && id.State() != page.Unused {
				_ = p.SetItemID(n, page.MakeItemID(id.Offset(), page.Unused, id.Length())) // n exists
			}
		}
	}
	o.setFlags(o.flags() &^ (btreeHasGarbage | btreeSplitEnd))
	o.setCycle(0)
}
