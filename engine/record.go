package engine

import (
	"fmt"

	"github.com/logcore/logcore"
)

// PageSizeMax is the largest page, in bytes.
const PageSizeMax = 1 << 16

// RangeBytesMax is the longest range of a delta, in bytes. A longer change is a
// whole page and goes as an image.
const RangeBytesMax = PageSizeMax - 1

// Validate checks a record against its own page size: lengths, the order of the
// ranges, the fields its Op does not use. The error wraps logcore.ErrInvalid and
// names the record.
func (r Record) Validate() error {
	if r.PageSize > PageSizeMax || r.PageSize == 0 && r.Op != OpDrop {
		return r.invalid("page size %d: want 1 to %d bytes", r.PageSize, PageSizeMax)
	}
	if r.Op != OpImage && r.Data != nil || r.Op != OpDelta && r.Ranges != nil {
		return r.invalid("carries content that its operation does not use")
	}
	switch r.Op {
	case OpImage:
		if len(r.Data) != int(r.PageSize) {
			return r.invalid("image of %d bytes for a page of %d", len(r.Data), r.PageSize)
		}
	case OpDelta:
		return r.validateRanges()
	case OpTruncate:
	case OpDrop:
		if r.Page != 0 {
			return r.invalid("a drop concerns no page")
		}
	default:
		return r.invalid("unknown operation")
	}
	if r.Op == OpImage && r.Page == pageNumberEnd {
		return r.invalid("page number too large")
	}
	return nil
}

// pageNumberEnd is no page: the length of a space must fit in 32 bits.
const pageNumberEnd = 1<<32 - 1

func (r Record) validateRanges() error {
	if r.Page == pageNumberEnd {
		return r.invalid("page number too large")
	}
	if len(r.Ranges) == 0 {
		return r.invalid("delta without ranges")
	}
	end := uint32(0)
	for i, g := range r.Ranges {
		switch {
		case len(g.Data) == 0 || len(g.Data) > RangeBytesMax:
			return r.invalid("range %d of %d bytes: want 1 to %d", i, len(g.Data), RangeBytesMax)
		case g.Offset < end:
			return r.invalid("range %d begins at %d, before the end of the one before (%d)", i, g.Offset, end)
		case uint64(g.Offset)+uint64(len(g.Data)) > uint64(r.PageSize):
			return r.invalid("range %d [%d,+%d) leaves the page of %d bytes", i, g.Offset, len(g.Data), r.PageSize)
		}
		end = g.Offset + uint32(len(g.Data))
	}
	return nil
}

func (r Record) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: engine record (op %d, space %d, page %d): %s", logcore.ErrInvalid, r.Op, r.Space, r.Page, fmt.Sprintf(format, args...))
}

// Apply overwrites ranges in page, in order. The ranges must lie inside the page.
func Apply(page []byte, ranges []Range) {
	for _, g := range ranges {
		copy(page[g.Offset:int(g.Offset)+len(g.Data)], g.Data)
	}
}
