package redo

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/page"
)

// indexTuple is an item of a B-tree (IndexTupleData and what follows). One that stands for several heap
// tuples has their ids in a list at its end, the posting list.
type indexTuple []byte

const (
	indexTupleHeaderBytes = 8
	indexSizeMask         = 0x1FFF
	indexAltTID           = 0x2000 // the tuple's own id means something else

	isPosting     = 0x2000 // of the item number, which then counts the list
	postingMask   = 0x0FFF
	heapIDBytes   = 6
	tupleMaxAlign = 8
)

func alignTuple(n int) int { return (n + tupleMaxAlign - 1) &^ (tupleMaxAlign - 1) }

func (t indexTuple) block() uint32 {
	return uint32(binary.LittleEndian.Uint16(t))<<16 | uint32(binary.LittleEndian.Uint16(t[2:]))
}

func (t indexTuple) setBlock(v uint32) {
	binary.LittleEndian.PutUint16(t, uint16(v>>16))
	binary.LittleEndian.PutUint16(t[2:], uint16(v))
}

func (t indexTuple) number() int      { return int(binary.LittleEndian.Uint16(t[4:])) }
func (t indexTuple) setNumber(v int)  { binary.LittleEndian.PutUint16(t[4:], uint16(v)) }
func (t indexTuple) info() int        { return int(binary.LittleEndian.Uint16(t[6:])) }
func (t indexTuple) setInfo(v int)    { binary.LittleEndian.PutUint16(t[6:], uint16(v)) }
func (t indexTuple) size() int        { return t.info() & indexSizeMask }
func (t indexTuple) hasPosting() bool { return t.info()&indexAltTID != 0 && t.number()&isPosting != 0 }

// cutTuple takes the tuple at the beginning of b, with its padding.
func cutTuple(b []byte) (t indexTuple, rest []byte, err error) {
	if len(b) < indexTupleHeaderBytes {
		return nil, nil, fmt.Errorf("an index tuple in %d bytes", len(b))
	}
	n := alignTuple(indexTuple(b).size())
	if n < indexTupleHeaderBytes || n > len(b) {
		return nil, nil, fmt.Errorf("an index tuple of %d bytes in %d", n, len(b))
	}
	return b[:n:n], b[n:], nil
}

// heapIDs returns the ids of the heap tuples that t stands for, and the length of its key.
func (t indexTuple) heapIDs() (ids []byte, keyBytes int, err error) {
	if len(t) < indexTupleHeaderBytes || t.size() > len(t) || t.size() < indexTupleHeaderBytes {
		return nil, 0, fmt.Errorf("an index tuple of %d bytes", len(t))
	}
	if !t.hasPosting() {
		return t[:heapIDBytes], t.size(), nil
	}
	from, n := int(t.block()), t.number()&postingMask
	if from < indexTupleHeaderBytes || from > len(t) || from+n*heapIDBytes > len(t) || n < 2 {
		return nil, 0, fmt.Errorf("a posting list of %d at offset %d in %d bytes", n, from, len(t))
	}
	return t[from : from+n*heapIDBytes], from, nil
}

// postingAt returns item n of a page, which must have a posting list. The bytes are the page's.
func postingAt(p page.Page, n int) (indexTuple, error) {
	b, err := p.Item(n)
	if err != nil {
		return nil, err
	}
	t := indexTuple(b)
	if len(t) < indexTupleHeaderBytes || !t.hasPosting() {
		return nil, fmt.Errorf("item %d has no posting list", n)
	}
	_, _, err = t.heapIDs()
	return t, err
}

// swapPosting puts the heap tuple of added into its place in the middle of posting's list, which it returns
// changed; added gets the last of the list instead.
func swapPosting(added, posting indexTuple, at int) (indexTuple, error) {
	if len(added) < indexTupleHeaderBytes {
		return nil, fmt.Errorf("an index tuple of %d bytes", len(added))
	}
	out := append(indexTuple(nil), posting...)
	ids, _, err := out.heapIDs()
	if err != nil {
		return nil, err
	}
	if n := len(ids) / heapIDBytes; at <= 0 || at >= n {
		return nil, fmt.Errorf("a posting list of %d is split at %d", n, at)
	}
	var last [heapIDBytes]byte
	copy(last[:], ids[len(ids)-heapIDBytes:])
	copy(ids[(at+1)*heapIDBytes:], ids[at*heapIDBytes:])
	copy(ids[at*heapIDBytes:], added[:heapIDBytes])
	copy(added, last[:])
	return out, nil
}

// withIDs returns a tuple with t's key for these heap tuples.
func (t indexTuple) withIDs(keyBytes int, ids []byte) (indexTuple, error) {
	n := len(ids) / heapIDBytes
	size := keyBytes
	if n > 1 {
		size = alignTuple(keyBytes + len(ids))
	}
	if n == 0 || size > indexSizeMask || keyBytes > len(t) {
		return nil, fmt.Errorf("an index tuple of %d bytes for %d heap tuples", size, n)
	}
	out := make(indexTuple, size)
	copy(out, t[:keyBytes])
	info := t.info()&^indexSizeMask | size
	if n == 1 {
		out.setInfo(info &^ indexAltTID)
		copy(out, ids)
		return out, nil
	}
	out.setInfo(info | indexAltTID)
	out.setNumber(n | isPosting)
	out.setBlock(uint32(keyBytes))
	copy(out[keyBytes:], ids)
	return out, nil
}

// without returns the tuple without some of its heap tuples, given by their places in the list, ascending.
func (t indexTuple) without(places []int) (indexTuple, error) {
	ids, keyBytes, err := t.heapIDs()
	if err != nil {
		return nil, err
	}
	var left []byte
	next := 0
	for i := 0; i < len(ids)/heapIDBytes; i++ {
		if next < len(places) && places[next] == i {
			next++
			continue
		}
		left = append(left, ids[i*heapIDBytes:(i+1)*heapIDBytes]...)
	}
	if next != len(places) {
		return nil, fmt.Errorf("places %v of a posting list of %d", places, len(ids)/heapIDBytes)
	}
	return t.withIDs(keyBytes, left)
}
