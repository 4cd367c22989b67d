package pageserver

import (
	"fmt"
	"math"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// A fold is the net effect of the records of one log entry, up to the next record that
// concerns a group of spaces: at most one version a page, at most one new length and
// one cut a space. It is used again for the next entry, so that an entry of a few
// records costs no allocation.
type fold struct {
	// sizeOf returns a space's length before the entry.
	sizeOf func(engine.Space) (sizeValue, error)
	// holds reports whether a page's content matters; nil: every page's does.
	holds   func(engine.Space, uint32) bool
	spaces  []spaceFold
	pages   []pageFold
	objects []*engine.Record
	// found and foundSpaces find a page's and a space's fold once there are more than scanMax.
	found       map[pageID]int
	foundSpaces map[engine.Space]int
}

// scanMax is up to how many pages, or spaces, a fold looks through instead of keeping an index.
const scanMax = 8

// spaceFold is the fold of one space.
//
// Invariant: a page of the fold that is not dead was written after every cut of this
// entry that concerns it; cut is the lowest length the space had, noCut when it lost nothing.
type spaceFold struct {
	space  engine.Space
	before sizeValue
	size   sizeValue
	cut    uint64
}

const noCut = math.MaxUint64

// pageFold is the fold of one page: a whole image, zeros (init), or what was there
// before the entry, and the steps that change it, in order.
type pageFold struct {
	space  int // index in spaces
	page   uint32
	dead   bool // cut after it was written
	init   bool
	image  []byte
	shared bool // image belongs to the payload: copy before writing
	steps  []step
}

// begin empties the fold.
func (f *fold) begin() {
	f.spaces, f.pages, f.objects = f.spaces[:0], f.pages[:0], f.objects[:0]
	f.found, f.foundSpaces = nil, nil
}

func (f *fold) space(space engine.Space) (int, error) {
	n := len(f.spaces)
	if f.foundSpaces != nil {
		if i, ok := f.foundSpaces[space]; ok {
			return i, nil
		}
	} else {
		for i := n - 1; i >= 0; i-- {
			if f.spaces[i].space == space {
				return i, nil
			}
		}
	}
	size, err := f.sizeOf(space)
	if err != nil {
		return 0, err
	}
	f.spaces = append(f.spaces, spaceFold{space: space, before: size, size: size, cut: noCut})
	if f.foundSpaces == nil && n >= scanMax {
		f.foundSpaces = make(map[engine.Space]int, 4*scanMax)
		for i := range f.spaces {
			f.foundSpaces[f.spaces[i].space] = i
		}
	} else if f.foundSpaces != nil {
		f.foundSpaces[space] = n
	}
	return n, nil
}

// add takes one more record, which must be valid and concern no group. A *badEntry says
// that the record cannot be; another error comes from sizeOf. The record's slices are
// kept until the next begin.
func (f *fold) add(r *engine.Record) error {
	if r.Op == engine.OpPut {
		f.objects = append(f.objects, r)
		return nil
	}
	i, err := f.space(r.Space)
	if err != nil {
		return err
	}
	sf := &f.spaces[i]
	if r.Op == engine.OpDrop {
		f.cutAt(i, 0)
		sf.size = sizeValue{}
		return nil
	}
	if sf.size.pageSize != 0 && sf.size.pageSize != r.PageSize {
		return &badEntry{fmt.Errorf("%w: space %v has pages of %d bytes, a record says %d: a space keeps its page size until it is dropped", logcore.ErrCorrupt, r.Space, sf.size.pageSize, r.PageSize)}
	}
	sf.size.pageSize = r.PageSize
	if r.Op == engine.OpTruncate {
		if r.Page < sf.size.pages {
			f.cutAt(i, r.Page)
		}
		sf.size.pages = r.Page
		return nil
	}
	if f.holds == nil || f.holds(r.Space, r.Page) {
		f.change(i, r)
	}
	sf.size.pages = max(sf.size.pages, r.Page+1)
	return nil
}

// cutAt takes the content of the pages of a space from a number on.
func (f *fold) cutAt(space int, pages uint32) {
	f.spaces[space].cut = min(f.spaces[space].cut, uint64(pages))
	for i := range f.pages {
		if pf := &f.pages[i]; pf.space == space && pf.page >= pages {
			pf.dead = true
		}
	}
}

// change adds an image, a delta or a redo to its page's fold.
func (f *fold) change(space int, r *engine.Record) {
	pf := f.find(space, r.Page)
	if pf == nil {
		// A page that isn't there, or that this entry cut, begins as zeros.
		sf := &f.spaces[space]
		zero := uint64(r.Page) >= min(uint64(sf.size.pages), sf.cut)
		pf = f.newPage(space, r.Page)
		pf.init = zero
	}
	switch r.Op {
	case engine.OpImage:
		pf.restart()
		pf.image, pf.shared = r.Data, true
	case engine.OpDelta:
		f.delta(pf, r)
	case engine.OpRedo:
		if r.Init {
			pf.restart()
			pf.init = true
		}
		pf.steps = append(pf.steps, step{redo: r.Data})
	}
}

// delta changes the image when there is one and nothing has to come before.
func (f *fold) delta(pf *pageFold, r *engine.Record) {
	if len(pf.steps) > 0 || !pf.init && pf.image == nil {
		if n := len(pf.steps); n > 0 && pf.steps[n-1].ranges != nil {
			last := &pf.steps[n-1] // its capacity may be the record's: a copy
			last.ranges = append(last.ranges[:len(last.ranges):len(last.ranges)], r.Ranges...)
			return
		}
		pf.steps = append(pf.steps, step{ranges: r.Ranges})
		return
	}
	if pf.image == nil {
		pf.image, pf.init = make([]byte, r.PageSize), false
	} else if pf.shared {
		pf.image = append([]byte(nil), pf.image...)
	}
	pf.shared = false
	engine.Apply(pf.image, r.Ranges)
}

// restart forgets what the page was before.
func (pf *pageFold) restart() {
	pf.init, pf.image, pf.shared, pf.steps = false, nil, false, pf.steps[:0]
}

// find returns the fold of a page that this entry has touched and not cut since.
func (f *fold) find(space int, page uint32) *pageFold {
	if f.found != nil {
		if i, ok := f.found[pageID{f.spaces[space].space, page}]; ok && !f.pages[i].dead {
			return &f.pages[i]
		}
		return nil
	}
	for i := range f.pages {
		if pf := &f.pages[i]; pf.page == page && pf.space == space && !pf.dead {
			return pf
		}
	}
	return nil
}

// newPage begins the fold of a page. The slot's slices are used again.
func (f *fold) newPage(space int, page uint32) *pageFold {
	n := len(f.pages)
	if n < cap(f.pages) {
		f.pages = f.pages[:n+1]
	} else {
		f.pages = append(f.pages, pageFold{})
	}
	pf := &f.pages[n]
	*pf = pageFold{space: space, page: page, steps: pf.steps[:0]}
	if f.found == nil && n >= scanMax {
		f.found = make(map[pageID]int, 4*scanMax)
		for i := range f.pages {
			f.found[pageID{f.spaces[f.pages[i].space].space, f.pages[i].page}] = i
		}
	} else if f.found != nil {
		f.found[pageID{f.spaces[space].space, page}] = n
	}
	return pf
}
