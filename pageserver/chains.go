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
	due bool
	// blind: nothing is known of the page's versions, and nobody is to look.
	blind bool
	depth uint16
	bytes uint32
	at    pos
	// serial is that of the set that has the version at at, which further changes may join;
	// 0 when none may. run is how many bytes of changes the version has.
	serial uint64
	run    uint32
	// alive is a place at which no cut had taken the version yet; at least at.
	alive pos
}

// begin is the chain of a version with nothing below it.
func (c *chain) begin(at pos, h versionHeader) {
	*c = chain{exists: true, at: at, alive: at, depth: h.depth, bytes: h.chainBytes}
}

// wrote notes that the version of a page in a set has so many more bytes of changes.
func (c *chain) wrote(set *writeSet, bytes uint32) {
	c.serial = set.serial
	c.run += bytes
}

// joins reports whether a change may join the page's version in a set.
func (c *chain) joins(set *writeSet, bytes, pageSize uint32) bool {
	return c.serial == set.serial && c.run+bytes <= pageSize
}

// chainCache remembers the chains of the pages written lately, in two generations: what
// is found in the older one moves to the younger, and the older one is dropped when the
// younger is full. What get and put return stays the page's until the next rotation.
type chainCache struct {
	young, old map[pageID]*chain
	slab       []chain // that young's next chains come from
}

const (
	// chainsMax bounds a generation.
	chainsMax = 1 << 16
	chainSlab = 64
)

func (c *chainCache) get(id pageID) (*chain, bool) {
	v, ok := c.young[id]
	if !ok {
		if v, ok = c.old[id]; ok {
			v = c.put(id, *v)
		}
	}
	return v, ok
}

func (c *chainCache) put(id pageID, v chain) *chain {
	if c.young == nil {
		c.young = map[pageID]*chain{}
	}
	if len(c.slab) == 0 {
		c.slab = make([]chain, chainSlab)
	}
	p := &c.slab[0]
	c.slab = c.slab[1:]
	*p, c.young[id] = v, p
	return p
}

// of returns the chain of a page that is about to begin anew.
func (c *chainCache) of(id pageID) *chain {
	if v, ok := c.get(id); ok {
		return v
	}
	return c.put(id, chain{})
}

// full reports whether it is time to rotate; who does makes sure first that all there
// is to know is in the store.
func (c *chainCache) full() bool { return len(c.young) >= chainsMax }

func (c *chainCache) rotate() { c.old, c.young, c.slab = c.young, nil, nil }
