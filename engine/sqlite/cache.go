package sqlite

import (
	"container/list"
	"sync"
)

// entryOverhead is what an entry costs besides its page, roughly: the map slot, the
// list element and the entry.
const entryOverhead = 160

// cache holds pages of one version of the file, the least recently used going first.
// It may be used by many goroutines. Pages in it are never modified: a change replaces
// the slice.
type cache struct {
	mu       sync.Mutex
	bytesMax int64
	bytes    int64 // guarded by mu
	pages    map[uint32]*list.Element
	order    *list.List // of cached; front = most recently used
}

type cached struct {
	page uint32
	data []byte
}

func newCache(bytesMax int64) *cache {
	return &cache{bytesMax: bytesMax, pages: make(map[uint32]*list.Element), order: list.New()}
}

// get returns a page's content, which the caller must not modify; nil when not held.
func (c *cache) get(page uint32) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.pages[page]
	if !ok {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(cached).data
}

// has reports whether a page is held, without counting as a use.
func (c *cache) has(page uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pages[page]
	return ok
}

// put takes ownership of data.
func (c *cache) put(page uint32, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.pages[page]; ok {
		c.bytes += int64(len(data) - len(el.Value.(cached).data))
		el.Value = cached{page, data}
		c.order.MoveToFront(el)
	} else {
		c.pages[page] = c.order.PushFront(cached{page, data})
		c.bytes += int64(len(data)) + entryOverhead
	}
	for c.bytes > c.bytesMax && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

// drop forgets the pages from the given one on.
func (c *cache) drop(from uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for page, el := range c.pages {
		if page >= from {
			c.remove(el)
		}
	}
}

func (c *cache) remove(el *list.Element) {
	e := el.Value.(cached)
	c.order.Remove(el)
	delete(c.pages, e.page)
	c.bytes -= int64(len(e.data)) + entryOverhead
}
