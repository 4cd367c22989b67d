package pageserver

import (
	"cmp"

	"github.com/logcore/logcore/engine"
)

type pageID struct {
	space engine.Space
	page  uint32
}

func (id pageID) compare(other pageID) int {
	return cmp.Or(id.space.Compare(other.space), cmp.Compare(id.page, other.page))
}

// chain says what a page's newest version costs to read.
type chain struct {
	exists bool
	// broken: the decoder refused to bring the page forward.
	broken bool
	// due: the page waits for an image.
	due   bool
	depth uint16
	bytes uint32
	at    pos
	// alive is a place at which no cut had taken the version yet; at least at.
	alive pos
}

// chainCache remembers the chains of the pages written lately, in two generations: what
// is found in the older one moves to the younger, and the older one is dropped when the
// younger is full.
type chainCache struct{ young, old map[pageID]chain }

// chainsMax bounds a generation.
const chainsMax = 1 << 16

func (c *chainCache) get(id pageID) (chain, bool) {
	v, ok := c.young[id]
	if !ok {
		v, ok = c.old[id]
	}
	return v, ok
}

func (c *chainCache) put(id pageID, v chain) {
	if c.young == nil {
		c.young = map[pageID]chain{}
	}
	c.young[id] = v
}

// full reports whether it is time to rotate; who does makes sure first that all there
// is to know is in the store.
func (c *chainCache) full() bool { return len(c.young) >= chainsMax }

func (c *chainCache) rotate() { c.old, c.young = c.young, nil }
