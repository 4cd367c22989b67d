package page

// HeapItemsMax is how many items a heap page can have (MaxHeapTuplesPerPage).
const HeapItemsMax = (Bytes - HeaderBytes) / (align24 + itemIDBytes)

// linesMax is about how many items an index page has at most; more take memory of their own.
const linesMax = 512

const align24 = 24 // of the shortest tuple: its header, aligned

// AddItem puts an item at line pointer n, which is the next or, for heap pages, an unused one.
func (p Page) AddItem(n int, item []byte) error { return p.put(n, item, false) }

// NewItem is AddItem for an item that the caller writes: it returns the item's place in the page, whose bytes are whatever they were.
func (p Page) NewItem(n, bytes int) ([]byte, error) { return p.reserve(n, bytes, false) }

// InsertItem puts an item at line pointer n; those from n on move up by one.
func (p Page) InsertItem(n int, item []byte) error { return p.put(n, item, true) }

func (p Page) put(n int, item []byte, shuffle bool) error {
	at, err := p.reserve(n, len(item), shuffle)
	copy(at, item)
	return err
}

// reserve makes room for an item and points line pointer n to it.
func (p Page) reserve(n, bytes int, shuffle bool) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	limit := p.Items() + 1
	if n < 1 || n > limit {
		return nil, damaged("item %d is added to a page of %d", n, limit-1)
	}
	lower := p.Lower()
	if n == limit || shuffle {
		lower += itemIDBytes
	} else if id := p.itemID(n); id.State() != Unused || id.Length() != 0 {
		return nil, damaged("item %d is in use", n)
	}
	upper := p.Upper() - align(bytes)
	if lower > upper {
		return nil, damaged("an item of %d bytes finds no room: lower %d, upper %d", bytes, p.Lower(), p.Upper())
	}
	if shuffle {
		at := HeaderBytes + (n-1)*itemIDBytes
		copy(p[at+itemIDBytes:lower], p[at:lower-itemIDBytes])
	}
	p.setItemID(n, MakeItemID(upper, Normal, bytes))
	p.SetLower(lower)
	p.SetUpper(upper)
	return p[upper : upper+bytes : upper+bytes], nil
}

// moved is an item on its way to the end of the page.
type moved struct {
	number         int // of its line pointer
	offset, length int // length is aligned
}

// compact moves items to the end of the page, the first to the very end.
func (p Page) compact(items []moved) error {
	var scratch [Bytes]byte
	copy(scratch[:], p)
	upper := p.Special()
	for _, m := range items {
		upper -= m.length
		if upper < p.Lower() {
			return damaged("its items are longer than it")
		}
		copy(p[upper:upper+m.length], scratch[m.offset:m.offset+m.length])
		id := p.itemID(m.number)
		p.setItemID(m.number, MakeItemID(upper, id.State(), id.Length()))
	}
	p.SetUpper(upper)
	return nil
}

// checkItem verifies that an item with storage lies where items lie.
func (p Page) checkItem(n int, id ItemID) error {
	if id.Offset() < p.Upper() || id.Offset()+align(id.Length()) > p.Special() {
		return damaged("item %d has offset %d and length %d", n, id.Offset(), id.Length())
	}
	return nil
}

// RepairFragmentation closes the gaps between a heap page's items, drops the unused line
// pointers at the end and sets the hint whether others are unused.
func (p Page) RepairFragmentation() error {
	if err := p.check(); err != nil {
		return err
	}
	items := make([]moved, 0, HeapItemsMax)
	last, unused := 0, 0
	n := p.Items()
	for i := 1; i <= n; i++ {
		id := p.itemID(i)
		if id.State() == Unused {
			p.setItemID(i, 0)
			unused++
			continue
		}
		last = i
		if id.Length() == 0 {
			continue
		}
		if err := p.checkItem(i, id); err != nil {
			return err
		}
		items = append(items, moved{i, id.Offset(), align(id.Length())})
	}
	if err := p.compact(items); err != nil {
		return err
	}
	unused -= n - last
	p.SetLower(p.Lower() - (n-last)*itemIDBytes)
	p.SetFlag(HasFreeLines, unused > 0)
	return nil
}

// TruncateItems drops the unused line pointers at the end, all but the first, and sets
// the hint whether others are unused.
func (p Page) TruncateItems() error {
	if err := p.check(); err != nil {
		return err
	}
	n := p.Items()
	last := n
	for last > 1 && p.itemID(last).State() == Unused {
		last--
	}
	free := false
	for i := 1; i <= last; i++ {
		free = free || p.itemID(i).State() == Unused
	}
	p.SetLower(p.Lower() - (n-last)*itemIDBytes)
	p.SetFlag(HasFreeLines, free)
	return nil
}

// DeleteItem removes item n of an index page; those behind it move down by one, and the
// items below it in the page move up.
func (p Page) DeleteItem(n int) error {
	if err := p.check(); err != nil {
		return err
	}
	id, err := p.ItemID(n)
	if err != nil {
		return err
	}
	if err := p.checkItem(n, id); err != nil {
		return err
	}
	at := HeaderBytes + (n-1)*itemIDBytes
	copy(p[at:], p[at+itemIDBytes:p.Lower()])
	p.SetLower(p.Lower() - itemIDBytes)
	p.closeGap(id.Offset(), align(id.Length()))
	return nil
}

// DeleteItemKeepingNumbers removes item n of an index page but not its line pointer, unless it is the
// last one: the numbers of the others stay.
func (p Page) DeleteItemKeepingNumbers(n int) error {
	if err := p.check(); err != nil {
		return err
	}
	id, err := p.ItemID(n)
	if err != nil {
		return err
	}
	if err := p.checkItem(n, id); err != nil {
		return err
	}
	if n < p.Items() {
		p.setItemID(n, 0)
	} else {
		p.SetLower(p.Lower() - itemIDBytes)
	}
	p.closeGap(id.Offset(), align(id.Length()))
	return nil
}

// closeGap moves the items below offset up by so many bytes; negative ones make room.
func (p Page) closeGap(offset, bytes int) {
	upper := p.Upper()
	copy(p[upper+bytes:offset+bytes], p[upper:offset])
	p.SetUpper(upper + bytes)
	for i := 1; i <= p.Items(); i++ {
		if id := p.itemID(i); id.Length() != 0 && id.Offset() <= offset {
			p.setItemID(i, MakeItemID(id.Offset()+bytes, id.State(), id.Length()))
		}
	}
}

// DeleteItems removes items of an index page, given in ascending order.
func (p Page) DeleteItems(numbers []int) error {
	if len(numbers) <= 2 {
		for i := len(numbers) - 1; i >= 0; i-- {
			if err := p.DeleteItem(numbers[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := p.check(); err != nil {
		return err
	}
	n := p.Items()
	items := make([]moved, 0, linesMax)
	ids := make([]ItemID, 0, linesMax)
	next := 0
	for i := 1; i <= n; i++ {
		id := p.itemID(i)
		if err := p.checkItem(i, id); err != nil {
			return err
		}
		if next < len(numbers) && numbers[next] == i {
			next++
			continue
		}
		ids = append(ids, id)
		items = append(items, moved{len(ids), id.Offset(), align(id.Length())})
	}
	if next != len(numbers) {
		return damaged("items %v are deleted of %d", numbers, n)
	}
	for i, id := range ids {
		p.setItemID(i+1, id)
	}
	p.SetLower(HeaderBytes + len(ids)*itemIDBytes)
	return p.compact(items)
}

// OverwriteItem replaces item n of an index page; its line pointer keeps its state.
func (p Page) OverwriteItem(n int, item []byte) error {
	if err := p.check(); err != nil {
		return err
	}
	id, err := p.ItemID(n)
	if err != nil {
		return err
	}
	if err := p.checkItem(n, id); err != nil {
		return err
	}
	change := align(id.Length()) - align(len(item))
	if -change > p.Upper()-p.Lower() {
		return damaged("item %d grows from %d to %d bytes, %d are free", n, id.Length(), len(item), p.Upper()-p.Lower())
	}
	if change != 0 {
		p.closeGap(id.Offset(), change)
	}
	p.setItemID(n, MakeItemID(id.Offset()+change, id.State(), len(item)))
	copy(p[id.Offset()+change:], item)
	return nil
}
