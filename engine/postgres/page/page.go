// Package page edits PostgreSQL's data pages, exactly as the server does: redo has to
// leave the same bytes behind as the change that was logged. The layout is the one of
// storage/bufpage.h and storage/itemid.h, page version 4, which PostgreSQL has had since 8.3.
//
// A page is a header, an array of line pointers that grows upwards from it, items that grow
// downwards, and at the end a special area that belongs to an index.
package page

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bytes is the length of a page.
const Bytes = 8192

const (
	// HeaderBytes is the length of the header that every page begins with.
	HeaderBytes = 24
	itemIDBytes = 4
	maxAlign    = 8
	// sizeAndVersion is what pd_pagesize_version says of such a page.
	sizeAndVersion = Bytes | 4
)

// The flags of a page's header.
const (
	HasFreeLines = 1 << 0 // some line pointer may be unused: a hint
	Full         = 1 << 1 // a hint
	AllVisible   = 1 << 2 // all tuples are visible to everybody
)

// ErrDamaged says that a page or a change does not fit: one is not what the other
// was made for.
var ErrDamaged = errors.New("page: the page does not fit the change")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// Page is a page's Bytes.
type Page []byte

func (p Page) u16(at int) int          { return int(binary.LittleEndian.Uint16(p[at:])) }
func (p Page) setU16(at, v int)        { binary.LittleEndian.PutUint16(p[at:], uint16(v)) }
func (p Page) u32(at int) uint32       { return binary.LittleEndian.Uint32(p[at:]) }
func (p Page) setU32(at int, v uint32) { binary.LittleEndian.PutUint32(p[at:], v) }

// LSN returns the end of the last record that changed the page.
func (p Page) LSN() uint64 { return uint64(p.u32(0))<<32 | uint64(p.u32(4)) }

// SetLSN sets it. The two halves are stored high one first.
func (p Page) SetLSN(lsn uint64) {
	p.setU32(0, uint32(lsn>>32))
	p.setU32(4, uint32(lsn))
}

// Checksum returns what the header says.
func (p Page) Checksum() uint16 { return uint16(p.u16(8)) }

// SetChecksum sets what the header says.
func (p Page) SetChecksum(v uint16) { p.setU16(8, int(v)) }

// Flags returns the header's flags.
func (p Page) Flags() int { return p.u16(10) }

// SetFlag sets or clears flags.
func (p Page) SetFlag(flags int, on bool) {
	v := p.Flags() &^ flags
	if on {
		v |= flags
	}
	p.setU16(10, v)
}

// Lower returns where the line pointers end.
func (p Page) Lower() int { return p.u16(12) }

// SetLower sets it.
func (p Page) SetLower(v int) { p.setU16(12, v) }

// Upper returns where the items begin.
func (p Page) Upper() int { return p.u16(14) }

// SetUpper sets it.
func (p Page) SetUpper(v int) { p.setU16(14, v) }

// Special returns where the special area begins.
func (p Page) Special() int { return p.u16(16) }

// PruneXID returns the oldest transaction whose end may make pruning worth while: a hint.
func (p Page) PruneXID() uint32 { return p.u32(20) }

// SetPruneXID sets it.
func (p Page) SetPruneXID(v uint32) { p.setU32(20, v) }

// IsNew reports whether the page was never initialised.
func (p Page) IsNew() bool { return p.Upper() == 0 }

// Init makes an empty page with a special area of so many bytes.
func (p Page) Init(specialBytes int) {
	clear(p)
	special := Bytes - align(specialBytes)
	p.SetLower(HeaderBytes)
	p.SetUpper(special)
	p.setU16(16, special)
	p.setU16(18, sizeAndVersion)
}

// Content returns what is behind the header.
func (p Page) Content() []byte { return p[HeaderBytes:] }

// SpecialArea returns the special area, which has to have at least so many bytes.
func (p Page) SpecialArea(bytes int) ([]byte, error) {
	s := p.Special()
	if s < HeaderBytes || s+bytes > Bytes {
		return nil, damaged("a special area of %d bytes is wanted, it begins at %d", bytes, s)
	}
	return p[s:], nil
}

func align(n int) int { return (n + maxAlign - 1) &^ (maxAlign - 1) }

// check verifies the order of the header's pointers.
func (p Page) check() error {
	if l, u, s := p.Lower(), p.Upper(), p.Special(); l < HeaderBytes || l > u || u > s || s > Bytes {
		return damaged("lower %d, upper %d, special %d", l, u, s)
	}
	return nil
}

// Items returns the number of line pointers.
func (p Page) Items() int {
	if p.Lower() <= HeaderBytes {
		return 0
	}
	return (p.Lower() - HeaderBytes) / itemIDBytes
}

// The states of a line pointer.
const (
	Unused   = 0
	Normal   = 1
	Redirect = 2 // Offset is the number of the item that took its place
	Dead     = 3
)

// ItemID is a line pointer.
type ItemID uint32

// MakeItemID packs a line pointer.
func MakeItemID(offset, state, length int) ItemID {
	return ItemID(offset&0x7FFF | state&3<<15 | length&0x7FFF<<17)
}

// Offset returns where the item is in the page; for a Redirect, the number of another.
func (i ItemID) Offset() int { return int(i & 0x7FFF) }

// State returns Unused, Normal, Redirect or Dead.
func (i ItemID) State() int { return int(i >> 15 & 3) }

// Length returns the item's length in bytes; 0 when it has no storage.
func (i ItemID) Length() int { return int(i >> 17) }

// ItemID returns the line pointer of item n, from 1.
func (p Page) ItemID(n int) (ItemID, error) {
	if n < 1 || n > p.Items() || HeaderBytes+n*itemIDBytes > Bytes {
		return 0, damaged("item %d of %d", n, p.Items())
	}
	return ItemID(p.u32(HeaderBytes + (n-1)*itemIDBytes)), nil
}

func (p Page) itemID(n int) ItemID { return ItemID(p.u32(HeaderBytes + (n-1)*itemIDBytes)) }

// SetItemID sets it. n must exist.
func (p Page) SetItemID(n int, id ItemID) error {
	if _, err := p.ItemID(n); err != nil {
		return err
	}
	p.setItemID(n, id)
	return nil
}

func (p Page) setItemID(n int, id ItemID) { p.setU32(HeaderBytes+(n-1)*itemIDBytes, uint32(id)) }

// Item returns the bytes of item n, which must have storage. They are the page's own.
func (p Page) Item(n int) ([]byte, error) {
	id, err := p.ItemID(n)
	if err != nil {
		return nil, err
	}
	from, to := id.Offset(), id.Offset()+id.Length()
	if id.Length() == 0 || from < HeaderBytes || to > Bytes {
		return nil, damaged("item %d has state %d, offset %d and length %d", n, id.State(), id.Offset(), id.Length())
	}
	return p[from:to:to], nil
}

// NormalItem is Item for one in the state Normal, as heap tuples are.
func (p Page) NormalItem(n int) ([]byte, error) {
	if id, err := p.ItemID(n); err != nil || id.State() != Normal {
		return nil, damaged("item %d of %d is no tuple", n, p.Items())
	}
	return p.Item(n)
}
