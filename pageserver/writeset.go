package pageserver

import (
	"cmp"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore/engine"
)

// writeSet is what is written to the store at once: keys and sealed values, and the state
// of the log after them. The versions of pages are sorted when it is written: Pebble's
// memory table finds the place of a key from that of the key before, so neighbours cost a
// few comparisons, and keys in the order of a log, which are all over the table, a whole
// descent each. That descent was most of what ingest cost.
type writeSet struct {
	data     []byte      // keys and values, one behind the other
	versions []versionOp // of pages
	others   []otherOp   // in their order
	// ranks numbers the spaces of versions, in the order in which they came.
	ranks map[engine.Space]uint32
	last  engine.Space // the space asked for last, of rank lastRank when there are any
	rank  uint32

	// pos is the state of the log after the set: that after the last whole entry in it.
	pos     stateValue
	entries int
	records int
	bytes   uint64 // of the log's own payloads up to there
	counted bool   // bytes is known
	partial bool   // the store has effects above pos, once it has the set
	due     []duePage
}

// versionOp is a version of a page in a set.
type versionOp struct {
	page   uint64 // rank of the space, page number
	offset uint32 // of the key in data; the value follows it
	value  uint32 // bytes
}

// otherOp is anything else; a removal's value is where the range of keys ends.
type otherOp struct {
	offset, key, value uint32
	removes            bool
}

// duePage is a page that is due an image in place of a version.
type duePage struct {
	id    pageID
	at    pos
	depth uint16 // of that version, as in its header
	bytes uint32
}

// writeSetBytesKept is how large a set may have been to be used again.
const writeSetBytesKept = 4 << 20

var writeSets = sync.Pool{New: func() any { return &writeSet{ranks: map[engine.Space]uint32{}} }}

func newWriteSet() *writeSet { return writeSets.Get().(*writeSet) }

// release gives an empty set back.
func (b *writeSet) release() {
	b.truncate(writeMark{})
	clear(b.ranks)
	b.entries, b.counted, b.partial = 0, false, false
	if cap(b.data) <= writeSetBytesKept {
		writeSets.Put(b)
	}
}

// writeMark is a place in a set.
type writeMark struct{ data, versions, others, due, records int }

func (b *writeSet) mark() writeMark {
	return writeMark{len(b.data), len(b.versions), len(b.others), len(b.due), b.records}
}

// truncate takes out what came after a mark.
func (b *writeSet) truncate(m writeMark) {
	b.data, b.versions, b.others, b.due, b.records = b.data[:m.data], b.versions[:m.versions], b.others[:m.others], b.due[:m.due], m.records
}

func (b *writeSet) size() int { return len(b.data) }

func (b *writeSet) empty() bool { return len(b.data) == 0 && b.entries == 0 }

// room appends n bytes whose content the caller writes.
func (b *writeSet) room(n int) (offset int) {
	offset = len(b.data)
	b.data = slices.Grow(b.data, n)[:offset+n]
	return offset
}

// version adds a version of a page and returns where its key and its value go, with that
// many bytes each: valid until something else is added. No version may come twice, and
// those of a page come in the order of their places.
func (b *writeSet) version(space engine.Space, page uint32, valueBytes int) (key, value []byte) {
	const keyBytes = versionPrefixBytes + posBytes
	at := b.room(keyBytes + valueBytes)
	b.versions = append(b.versions, versionOp{uint64(b.rankOf(space))<<32 | uint64(page), uint32(at), uint32(valueBytes)})
	end := at + keyBytes + valueBytes
	return b.data[at : at+keyBytes : at+keyBytes], b.data[at+keyBytes : end : end]
}

func (b *writeSet) rankOf(space engine.Space) uint32 {
	if len(b.ranks) > 0 && space == b.last {
		return b.rank
	}
	rank, ok := b.ranks[space]
	if !ok {
		rank = uint32(len(b.ranks))
		b.ranks[space] = rank
	}
	b.last, b.rank = space, rank
	return rank
}

// set adds a key and its sealed value, which are copied.
func (b *writeSet) set(key, sealed []byte) { b.other(key, sealed, false) }

// remove adds the removal of every key in [lower, upper) that is in the store by then.
func (b *writeSet) remove(lower, upper []byte) { b.other(lower, upper, true) }

func (b *writeSet) other(key, value []byte, removes bool) {
	at := b.room(len(key) + len(value))
	copy(b.data[at:], key)
	copy(b.data[at+len(key):], value)
	b.others = append(b.others, otherOp{uint32(at), uint32(len(key)), uint32(len(value)), removes})
}

// addTo adds the set to a batch of the store, the versions in the order of their keys: of
// a page the newest first.
func (b *writeSet) addTo(batch *pebble.Batch) error {
	for _, op := range b.others {
		key, value := b.data[op.offset:op.offset+op.key], b.data[op.offset+op.key:op.offset+op.key+op.value]
		var err error
		if op.removes {
			err = batch.DeleteRange(key, value, nil)
		} else {
			err = batch.Set(key, value, nil)
		}
		if err != nil {
			return err
		}
	}
	slices.SortFunc(b.versions, func(v, w versionOp) int {
		if v.page != w.page {
			return cmp.Compare(v.page, w.page)
		}
		return cmp.Compare(w.offset, v.offset)
	})
	for _, v := range b.versions {
		const keyBytes = versionPrefixBytes + posBytes
		if err := batch.Set(b.data[v.offset:v.offset+keyBytes], b.data[v.offset+keyBytes:v.offset+keyBytes+v.value], nil); err != nil {
			return err
		}
	}
	return nil
}
