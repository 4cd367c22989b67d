package pageserver

import (
	"container/list"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// versionID names one version of one page; what it stands for never changes within
// a generation of the log's state.
type versionID struct {
	log        logcore.LogID
	generation uint64
	space      engine.Space
	page       uint32
	at         pos
}

// image is a materialised page. Its bytes are shared and never written again.
type image struct {
	data   []byte
	digest uint64
}

// pageCache keeps recently used images within a byte budget, the least recently used
// going first. It is our own because a cache library would be a dependency for what
// is a map and a list here: keys are immutable versions, so nothing ever has to be
// invalidated, refreshed or expired.
type pageCache struct {
	bytesMax int64

	mu    sync.Mutex
	bytes int64                       // guarded by mu
	order *list.List                  // of *cacheEntry, most recent first; guarded by mu
	byID  map[versionID]*list.Element // guarded by mu
}

type cacheEntry struct {
	id versionID
	im image
}

// cacheEntryOverhead is what the map, the list and the entry take beside the bytes.
const cacheEntryOverhead = 256

func newPageCache(bytesMax int64) *pageCache {
	return &pageCache{bytesMax: bytesMax, order: list.New(), byID: map[versionID]*list.Element{}}
}

func (c *pageCache) get(id versionID) (image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byID[id]
	if !ok {
		return image{}, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*cacheEntry).im, true
}

func (c *pageCache) put(id versionID, im image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byID[id]; ok {
		c.order.MoveToFront(el)
		return
	}
	c.byID[id] = c.order.PushFront(&cacheEntry{id, im})
	c.bytes += int64(len(im.data)) + cacheEntryOverhead
	for c.bytes > c.bytesMax && c.order.Len() > 0 {
		oldest := c.order.Back()
		e := c.order.Remove(oldest).(*cacheEntry)
		delete(c.byID, e.id)
		c.bytes -= int64(len(e.im.data)) + cacheEntryOverhead
	}
}
