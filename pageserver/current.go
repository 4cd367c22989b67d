package pageserver

import (
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// currentPages remembers which version of a page is the one to read over which LSNs,
// so that a page whose image is cached is served without asking the store at all:
// asking costs a look into every level of it, whatever is cached.
//
// What is remembered for a page holds from its version's LSN through a reader's LSN,
// and on without end ("open") as long as the log's follower has not begun to write the
// page again. The follower says so (close) after it has announced the LSN it writes at
// (logState.writing) and before that LSN becomes visible; a reader opens only what it
// read at or after every announced LSN, under the same lock. A cut moves the space's
// epoch, which is part of the key, so nothing of before is found again.
type currentPages struct {
	entriesMax int

	mu    sync.Mutex
	pages map[currentID]current // guarded by mu
}

type currentID struct {
	log        logcore.LogID
	generation uint64
	epoch      uint64 // of the space's cuts
	space      engine.Space
	page       uint32
}

type current struct {
	version versionID
	through logcore.LSN
	open    bool
}

func newCurrentPages(entriesMax int) *currentPages {
	return &currentPages{entriesMax: entriesMax, pages: map[currentID]current{}}
}

// find returns the version of a page that was read last, the zero one when none is known,
// and whether it is the one to read at an LSN.
func (c *currentPages) find(id currentID, lsn logcore.LSN) (last versionID, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur, ok := c.pages[id]
	return cur.version, ok && lsn >= cur.version.at.lsn && (cur.open || lsn <= cur.through)
}

// learn takes over what a reader of l found at an LSN.
func (c *currentPages) learn(l *logState, id currentID, version versionID, lsn logcore.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.pages[id]
	if ok && version.at.less(was.version.at) {
		return // of an older time: the newer one is asked for more
	}
	if ok && was.version == version {
		lsn = max(lsn, was.through)
	}
	if !ok {
		c.makeRoom()
	}
	c.pages[id] = current{version, lsn, lsn >= logcore.LSN(l.writing.Load())}
}

// makeRoom drops some entries, whichever come, when there are too many.
func (c *currentPages) makeRoom() {
	if len(c.pages) < c.entriesMax {
		return
	}
	drop := c.entriesMax/16 + 1
	for id := range c.pages {
		delete(c.pages, id)
		if drop--; drop == 0 {
			return
		}
	}
}

// close says that the pages of a fold are written at an LSN: what is known of them ends
// before.
func (c *currentPages) close(l *logState, f *fold, lsn logcore.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pages) == 0 {
		return
	}
	var id currentID
	space := -1
	for i := range f.pages {
		pf := &f.pages[i]
		if pf.dead {
			continue
		}
		if space != pf.space {
			space, id = pf.space, l.currentID(f.spaces[pf.space].space, 0)
		}
		id.page = pf.page
		c.end(id, lsn)
	}
}

// closeOne is close of one page.
func (c *currentPages) closeOne(id currentID, lsn logcore.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(id, lsn)
}

// end is close of one page; the caller holds mu.
func (c *currentPages) end(id currentID, lsn logcore.LSN) {
	if cur, ok := c.pages[id]; ok && cur.open {
		cur.open, cur.through = false, lsn-1
		c.pages[id] = cur
	}
}
