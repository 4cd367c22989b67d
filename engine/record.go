package engine

import (
	"fmt"

	"github.com/logcore/logcore"
)

// pageNumberEnd is no page: the length of a space must fit in 32 bits.
const pageNumberEnd = 1<<32 - 1

// hasPage reports whether the operation changes one page.
func (o Op) hasPage() bool { return o == OpImage || o == OpDelta || o == OpRedo }

// Validate checks a record against its own page size: lengths, the order of the
// ranges, the fields its Op does not use. The error wraps logcore.ErrInvalid and
// names the record.
func (r *Record) Validate() error {
	if reason := r.foreignField(); reason != "" {
		return r.invalid("carries %s, which its operation does not use", reason)
	}
	if r.PageSize > PageSizeMax || r.PageSize == 0 && (r.Op.hasPage() || r.Op == OpTruncate) {
		return r.invalid("page size %d: want 1 to %d bytes", r.PageSize, PageSizeMax)
	}
	if r.Page == pageNumberEnd && r.Op.hasPage() {
		return r.invalid("page number too large")
	}
	switch r.Op {
	case OpImage:
		if len(r.Data) != int(r.PageSize) {
			return r.invalid("image of %d bytes for a page of %d", len(r.Data), r.PageSize)
		}
	case OpDelta:
		return r.validateRanges()
	case OpRedo:
		if len(r.Data) > RedoBytesMax {
			return r.invalid("redo of %d bytes, at most %d", len(r.Data), RedoBytesMax)
		}
	case OpPut:
		if len(r.Key) == 0 || len(r.Key) > KeyBytesMax || len(r.Data) > ObjectBytesMax {
			return r.invalid("key of %d bytes, object of %d: want 1 to %d and at most %d", len(r.Key), len(r.Data), KeyBytesMax, ObjectBytesMax)
		}
	case OpTruncate, OpDrop, OpDropGroup, OpCopyGroup:
	default:
		return r.invalid("unknown operation")
	}
	return nil
}

// foreignField names a field that is set though the operation does not use it.
func (r *Record) foreignField() string {
	group := r.Op == OpDropGroup || r.Op == OpCopyGroup
	switch {
	case r.Data != nil && r.Op != OpImage && r.Op != OpRedo && r.Op != OpPut:
		return "data"
	case r.Ranges != nil && r.Op != OpDelta:
		return "ranges"
	case r.Init && r.Op != OpRedo:
		return "an init flag"
	case r.From != 0 && r.Op != OpCopyGroup:
		return "a group to copy from"
	case r.Key != nil && r.Op != OpPut:
		return "a key"
	case r.Page != 0 && !r.Op.hasPage() && r.Op != OpTruncate:
		return "a page number"
	case r.PageSize != 0 && (group || r.Op == OpPut):
		return "a page size"
	case r.Space.Lo != 0 && group, r.Space != Space{} && r.Op == OpPut:
		return "a space"
	}
	return ""
}

func (r *Record) validateRanges() error {
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

func (r *Record) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: engine record (op %d, space %v, page %d): %s", logcore.ErrInvalid, r.Op, r.Space, r.Page, fmt.Sprintf(format, args...))
}

// Apply overwrites ranges in page, in order. The ranges must lie inside the page.
func Apply(page []byte, ranges []Range) {
	for _, g := range ranges {
		copy(page[g.Offset:int(g.Offset)+len(g.Data)], g.Data)
	}
}
