package pageserver

import (
	"github.com/maypok86/otter/v2"

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

// cacheEntryOverhead is about what the cache takes for an entry beside the page.
const cacheEntryOverhead = 256

// onCaller has a cache look after itself on the goroutine that uses it. By default it begins a
// goroutine with nearly every page that is put in: waking a processor for that cost more than
// the work, a third of what a read from the store took, and was among the slow one percent.
func onCaller(do func()) { do() }

// pageCache keeps recently and often used images within a byte budget. Keys are
// immutable versions, so nothing ever has to be invalidated.
type pageCache struct {
	bytesMax int64
	images   *otter.Cache[versionID, image]
}

func newPageCache(bytesMax int64) *pageCache {
	return &pageCache{bytesMax, otter.Must(&otter.Options[versionID, image]{
		Executor:      onCaller,
		MaximumWeight: uint64(bytesMax),
		Weigher:       func(_ versionID, im image) uint32 { return uint32(len(im.data) + cacheEntryOverhead) },
	})}
}

func (c *pageCache) get(id versionID) (image, bool) { return c.images.GetIfPresent(id) }

func (c *pageCache) put(id versionID, im image) {
	if int64(len(im.data)+cacheEntryOverhead) <= c.bytesMax { // otherwise it would go at once
		c.images.Set(id, im)
	}
}

// writtenPages keeps, within a byte budget, what pages that were written lately are after
// their newest version, ahead of readers: a page that is due an image has it here, and
// does not have to be put together from the store. What is not here is merely read.
type writtenPages struct {
	pages *otter.Cache[writtenID, *writtenPage]
}

type writtenID struct {
	generation uint64
	pageID
}

// writtenPage is the newest content of a page, as of a place. The log's ingester alone
// reads and changes it.
type writtenPage struct {
	at   pos
	data []byte
}

func newWrittenPages(bytesMax int64) *writtenPages {
	return &writtenPages{otter.Must(&otter.Options[writtenID, *writtenPage]{
		Executor:      onCaller,
		MaximumWeight: uint64(bytesMax),
		Weigher:       func(_ writtenID, p *writtenPage) uint32 { return uint32(len(p.data) + cacheEntryOverhead) },
	})}
}

// put takes over that a page is data, which is copied, from a place on.
func (c *writtenPages) put(id writtenID, at pos, data []byte) {
	if p, ok := c.pages.GetIfPresent(id); ok && len(p.data) == len(data) {
		p.at = at
		copy(p.data, data)
		return
	}
	c.pages.Set(id, &writtenPage{at, append([]byte(nil), data...)})
}

// get returns the page when it is known as of a place.
func (c *writtenPages) get(id writtenID, at pos) *writtenPage {
	if p, ok := c.pages.GetIfPresent(id); ok && p.at == at {
		return p
	}
	return nil
}
