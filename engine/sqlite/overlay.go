package sqlite

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Offsets in SQLite's file header, which stands at the beginning of page 0, big-endian.
const (
	headerBytes         = 100
	headerPageSize      = 16 // uint16; 1 means 65536
	headerWriteVersion  = 18 // 1 = rollback journal, 2 = write-ahead log
	headerReadVersion   = 19 // the same
	headerChangeCounter = 24 // uint32
)

// overlay is what a transaction has written so far over the file as it was when the
// transaction began. Nothing of it leaves the process before the transaction commits.
type overlay struct {
	// unit is the size of a block in bytes: the base's page size, or that of the first
	// write when there is no base.
	unit int64
	// blocks are the blocks written, each in a slice of its own that is never modified:
	// after the commit it goes into the cache.
	blocks map[uint32][]byte
	// size is the file's length in bytes, as the pager sees it.
	size int64
	// floor is the shortest the file has been since the transaction began, in blocks.
	// Invariant: content of the base shows through below floor only.
	floor uint32
	// bytesMax bounds the blocks held.
	bytesMax int64
}

func newOverlay(base snapshot, bytesMax int64) *overlay {
	return &overlay{
		unit:   int64(base.pageSize),
		blocks: make(map[uint32][]byte),
		size:   base.bytes(),
		floor:  base.pages, bytesMax: bytesMax,
	}
}

// block returns a block's content if this transaction decides it: written, or beyond
// what shows of the base. The caller must not modify it.
func (o *overlay) block(no uint32) ([]byte, bool) {
	if data, ok := o.blocks[no]; ok {
		return data, true
	}
	if no >= o.floor {
		return make([]byte, o.unit), true
	}
	return nil, false
}

// errTxTooLarge: the transaction changes more than Options.TxBytesMax.
type errTxTooLarge struct{ bytesMax int64 }

func (e errTxTooLarge) Error() string {
	return fmt.Sprintf("sqlite: the transaction changes more than %d bytes: split it, or raise TxBytesMax", e.bytesMax)
}

// write puts b at off. base returns the block before the transaction, for a write that
// covers only a part of it.
func (o *overlay) write(b []byte, off int64, base func(no uint32) ([]byte, error)) error {
	if o.unit == 0 {
		if !validPageSize(int64(len(b))) {
			return fmt.Errorf("sqlite: first write to an empty file has %d bytes: want a page, 512 to 65536 bytes and a power of two", len(b))
		}
		o.unit = int64(len(b))
	}
	for len(b) > 0 {
		no, within := uint32(off/o.unit), off%o.unit
		n := min(int64(len(b)), o.unit-within)
		block := make([]byte, o.unit)
		if n < o.unit {
			before, ok := o.block(no)
			if !ok {
				var err error
				if before, err = base(no); err != nil {
					return err
				}
			}
			copy(block, before)
		}
		copy(block[within:], b[:n])
		o.blocks[no] = block
		if int64(len(o.blocks))*o.unit > o.bytesMax {
			return errTxTooLarge{o.bytesMax}
		}
		b, off = b[n:], off+n
		o.size = max(o.size, off)
	}
	return nil
}

// truncate makes the file size bytes long. Cut content is gone: when the file grows
// again it reads as zeros.
func (o *overlay) truncate(size int64) {
	if size < o.size && o.unit > 0 {
		keep := uint32((size + o.unit - 1) / o.unit)
		for no := range o.blocks {
			if no >= keep {
				delete(o.blocks, no)
			}
		}
		o.floor = min(o.floor, keep)
	}
	o.size = size
}

// numbers returns the written blocks' numbers, ascending.
func (o *overlay) numbers() []uint32 {
	return slices.Sorted(maps.Keys(o.blocks))
}

// filePageSize returns the page size that SQLite's header on page 0 states; 0 when it
// states none.
func filePageSize(page0 []byte) int64 {
	if len(page0) < headerBytes {
		return 0
	}
	size := int64(binary.BigEndian.Uint16(page0[headerPageSize:]))
	if size == 1 {
		size = 65536
	}
	if !validPageSize(size) {
		return 0
	}
	return size
}

// validPageSize reports whether SQLite can have pages of size bytes.
func validPageSize(size int64) bool {
	return size >= 512 && size <= 65536 && size&(size-1) == 0
}
