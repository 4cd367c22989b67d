package sqlite

import (
	"container/list"
	"sync"

	"github.com/logcore/logcore"
)

// entryOverhead is what an entry costs besides its page, roughly: the map slot, the
// list element and the entry.
const entryOverhead = 160

// cache holds pages of one version of the file, the least recently used going first.
// It may be used by many goroutines. Pages in it are never modified: a change replaces
// the slice.
//
// Whoever reads or fills it says for which version. A commit moves the cache to the
// next one in place, and a page that somebody began to fetch before then arrives too
// late: it is of the version before, so it is refused.
type cache struct {
	mu       sync.Mutex
	version  logcore.LSN // what every page is of; guarded by mu
	bytesMax int64
	bytes    int64 // guarded by mu
	pages    map[uint32]*list.Element
	order    *list.List // of cached; front = most recently used
}

type cached struct {
	page uint32
	data []byte
}

func newCache(version logcore.LSN, bytesMax int64) *cache {
	return &cache{version: version, bytesMax: bytesMax, pages: make(map[uint32]*list.Element), order: list.New()}
}

// get returns a page's content in a version, which the caller must not modify; nil
// when not held.
func (c *cache) get(version logcore.LSN, page uint32) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.pages[page]
	if !ok || version != c.version {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(cached).data
}

// has reports whether a page of a version is held, without counting as a use.
func (c *cache) has(version logcore.LSN, page uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pages[page]
	return ok && version == c.version
}

// put takes ownership of data, unless the cache is of another version.
func (c *cache) put(version logcore.LSN, page uint32, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.version {
		c.set(page, data)
	}
}

// advance moves the cache to the version that a commit made: nothing is left from page
// cut on but the blocks that it wrote, of which the cache takes ownership.
func (c *cache) advance(version logcore.LSN, cut uint32, blocks map[uint32][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = version
	for page, el := range c.pages {
		if page >= cut {
			c.remove(el)
		}
	}
	for page, data := range blocks {
		c.set(page, data)
	}
}

// set is called with mu held.
func (c *cache) set(page uint32, data []byte) {
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

func (c *cache) remove(el *list.Element) {
	e := el.Value.(cached)
	c.order.Remove(el)
	delete(c.pages, e.page)
	c.bytes -= int64(len(e.data)) + entryOverhead
}
