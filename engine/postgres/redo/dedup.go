package redo

// interval is a run of items that deduplication makes into one.
type interval struct{ first, items int }

// btreeDedup merges runs of items with equal keys. The record has the runs that were longer
// than one, in the order of the page.
func (c *change) btreeDedup() error {
	o, err := opaqueOf(c.p)
	if err != nil {
		return err
	}
	intervals := make([]interval, 0, 16)
	for range c.main.u16() {
		intervals = append(intervals, interval{c.data.u16(), c.data.u16()})
	}
	out := newCopy(c.p)
	n, last := 1, c.p.Items()
	for ; n < o.firstData(); n++ { // the high key stays
		item, err := c.p.Item(n)
		if err != nil {
			return err
		}
		if err := out.add(item); err != nil {
			return err
		}
	}
	for n <= last {
		run := 1
		if len(intervals) > 0 && intervals[0].first == n {
			run = intervals[0].items
			intervals = intervals[1:]
		}
		item, err := c.merged(n, run)
		if err != nil {
			return err
		}
		if err := out.add(item); err != nil {
			return err
		}
		n += run
	}
	no, err := opaqueOf(out.p)
	if err != nil {
		return err
	}
	no.setFlags(no.flags() &^ btreeHasGarbage)
	copy(c.p, out.p)
	return nil
}

// merged returns items [n, n+run) as one, with the first one's key.
func (c *change) merged(n, run int) (indexTuple, error) {
	b, err := c.p.Item(n)
	if err != nil {
		return nil, err
	}
	base := indexTuple(b)
	ids, keyBytes, err := base.heapIDs()
	if err != nil || run == 1 {
		return base[:min(len(base), base.size())], err
	}
	ids = append([]byte(nil), ids...)
	for i := 1; i < run; i++ {
		b, err := c.p.Item(n + i)
		if err != nil {
			return nil, err
		}
		more, _, err := indexTuple(b).heapIDs()
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	return base.withIDs(keyBytes, ids)
}
