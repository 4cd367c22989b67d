package pageserver

import (
	"fmt"
	"math"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// A fold is the net effect of the records of one log entry: at most one version a
// page, at most one new length and one cut a space.
type fold struct {
	// sizeOf returns a space's length before the entry.
	sizeOf func(engine.Space) (sizeValue, error)
	spaces map[engine.Space]*spaceFold
	order  []engine.Space
}

// spaceFold is the fold of one space.
//
// Invariant: a page in pages was written after every cut of this entry that concerns
// it; cut is the lowest length the space had, noCut when it lost nothing.
type spaceFold struct {
	before sizeValue
	size   sizeValue
	cut    uint64
	pages  map[uint32]*pageFold
	order  []uint32
}

const noCut = math.MaxUint64

// pageFold is the fold of one page: a whole image, or ranges that change what was
// there before the entry, in order, possibly overlapping.
type pageFold struct {
	image  []byte
	shared bool // image belongs to the payload: copy before writing
	ranges []engine.Range
}

func newFold(sizeOf func(engine.Space) (sizeValue, error)) *fold {
	return &fold{sizeOf: sizeOf, spaces: map[engine.Space]*spaceFold{}}
}

func (f *fold) space(space engine.Space) (*spaceFold, error) {
	if sf := f.spaces[space]; sf != nil {
		return sf, nil
	}
	size, err := f.sizeOf(space)
	if err != nil {
		return nil, err
	}
	sf := &spaceFold{before: size, size: size, cut: noCut, pages: map[uint32]*pageFold{}}
	f.spaces[space] = sf
	f.order = append(f.order, space)
	return sf, nil
}

// add takes one more record. A *badEntry says that the record cannot be; another
// error comes from sizeOf.
func (f *fold) add(r engine.Record) error {
	if err := r.Validate(); err != nil {
		return &badEntry{fmt.Errorf("%w: the decoder made an impossible record: %v", logcore.ErrCorrupt, err)}
	}
	switch r.Op {
	case engine.OpRedo, engine.OpDropGroup, engine.OpCopyGroup, engine.OpPut:
		return &badEntry{fmt.Errorf("%w: operation %d of a record", logcore.ErrUnsupportedVersion, r.Op)}
	}
	sf, err := f.space(r.Space)
	if err != nil {
		return err
	}
	if r.Op == engine.OpDrop {
		sf.cutAt(0)
		sf.size = sizeValue{}
		return nil
	}
	if sf.size.pageSize != 0 && sf.size.pageSize != r.PageSize {
		return &badEntry{fmt.Errorf("%w: space %v has pages of %d bytes, a record says %d: a space keeps its page size until it is dropped", logcore.ErrCorrupt, r.Space, sf.size.pageSize, r.PageSize)}
	}
	sf.size.pageSize = r.PageSize
	switch r.Op {
	case engine.OpTruncate:
		if r.Page < sf.size.pages {
			sf.cutAt(r.Page)
		}
		sf.size.pages = r.Page
	case engine.OpImage:
		*sf.page(r.Page) = pageFold{image: r.Data, shared: true}
		sf.size.pages = max(sf.size.pages, r.Page+1)
	case engine.OpDelta:
		sf.delta(r)
		sf.size.pages = max(sf.size.pages, r.Page+1)
	}
	return nil
}

func (sf *spaceFold) cutAt(pages uint32) {
	sf.cut = min(sf.cut, uint64(pages))
	for n := range sf.pages {
		if n >= pages {
			delete(sf.pages, n)
		}
	}
}

// page returns the fold of a page, a new one when the entry has not touched it yet.
func (sf *spaceFold) page(n uint32) *pageFold {
	pf := sf.pages[n]
	if pf == nil {
		pf = &pageFold{}
		sf.pages[n] = pf
		sf.order = append(sf.order, n)
	}
	return pf
}

func (sf *spaceFold) delta(r engine.Record) {
	pf := sf.pages[r.Page]
	if pf == nil {
		// A page that isn't there, or that this entry cut, begins as zeros.
		zero := uint64(r.Page) >= min(uint64(sf.size.pages), sf.cut)
		pf = sf.page(r.Page)
		if zero {
			pf.image = make([]byte, r.PageSize)
		}
	}
	if pf.image == nil {
		pf.ranges = append(pf.ranges, r.Ranges...)
		return
	}
	if pf.shared {
		pf.image, pf.shared = append([]byte(nil), pf.image...), false
	}
	engine.Apply(pf.image, r.Ranges)
}
