package pageserver

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
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
	commits  []commit
	states   []stateOp
	// stateBytes is what the states have, joinable whether the next may join the last.
	stateBytes int
	joinable   bool
	// serial numbers the sets of this process.
	serial uint64
	value  []byte // scratch
	// ranks numbers the spaces of versions, in the order in which they came.
	ranks map[engine.Space]uint32
	last  engine.Space // the space asked for last, of rank lastRank when there are any
	rank  uint32

	// pos is the state of the log after the set: that after the last whole entry in it.
	pos     stateValue
	since   time.Time // it was first given to the committer; zero before
	entries int
	records int
	bytes   uint64 // of the log's own payloads up to there
	counted bool   // bytes is known
	partial bool   // the store has effects above pos, once it has the set
	due     []duePage
}

// versionOp is a version of a page in a set, or a change that joins the one before.
type versionOp struct {
	page   uint64 // rank of the space, page number
	offset uint32 // of the key in data, which the value follows; of a change's steps
	value  uint32 // bytes, of the steps
	// joins: it is a change of the page's version before it. at is where, chainBytes what the
	// whole has then.
	joins      bool
	chainBytes uint32
	at         pos
}

// commit is a place at which the log became visible, and its clock.
type commit struct {
	lsn  logcore.LSN
	time logcore.HLC
}

// stateOp is the decoder's state from a place on; joins: it follows the one before.
type stateOp struct {
	at    pos
	state []byte
	joins bool
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
const writeSetBytesKept = 2 * writeSetBytesMax

var writeSets = sync.Pool{New: func() any { return &writeSet{ranks: map[engine.Space]uint32{}} }}

var writeSetSerial atomic.Uint64

func newWriteSet() *writeSet {
	set := writeSets.Get().(*writeSet)
	set.serial = writeSetSerial.Add(1)
	return set
}

// release gives an empty set back.
func (b *writeSet) release() {
	b.truncate(writeMark{})
	clear(b.ranks)
	b.entries, b.counted, b.partial, b.since = 0, false, false, time.Time{}
	if cap(b.data) <= writeSetBytesKept {
		writeSets.Put(b)
	}
}

// writeMark is a place in a set.
type writeMark struct{ data, versions, others, commits, states, stateBytes, due, records int }

func (b *writeSet) mark() writeMark {
	return writeMark{len(b.data), len(b.versions), len(b.others), len(b.commits), len(b.states), b.stateBytes, len(b.due), b.records}
}

// truncate takes out what came after a mark.
func (b *writeSet) truncate(m writeMark) {
	b.data, b.versions, b.others, b.due, b.records = b.data[:m.data], b.versions[:m.versions], b.others[:m.others], b.due[:m.due], m.records
	clear(b.states[m.states:])
	b.commits, b.states, b.stateBytes, b.joinable = b.commits[:m.commits], b.states[:m.states], m.stateBytes, false
}

func (b *writeSet) size() int { return len(b.data) + b.stateBytes }

func (b *writeSet) empty() bool { return b.size() == 0 && b.entries == 0 }

// room appends n bytes whose content the caller writes.
func (b *writeSet) room(n int) (offset int) {
	offset = len(b.data)
	b.data = slices.Grow(b.data, n)[:offset+n]
	return offset
}

// version adds a version of a page and returns where its key and its value, not sealed, go,
// with that many bytes each: valid until something else is added. No version may come twice,
// and those of a page come in the order of their places.
func (b *writeSet) version(space engine.Space, page uint32, valueBytes int) (key, value []byte) {
	const keyBytes = versionPrefixBytes + posBytes
	at := b.room(keyBytes + valueBytes)
	b.versions = append(b.versions, versionOp{page: uint64(b.rankOf(space))<<32 | uint64(page), offset: uint32(at), value: uint32(valueBytes)})
	end := at + keyBytes + valueBytes
	return b.data[at : at+keyBytes : at+keyBytes], b.data[at+keyBytes : end : end]
}

// change adds a change to the version of a page that was added last, and returns where its
// steps go. chainBytes is what the header of the version says from then on.
func (b *writeSet) change(space engine.Space, page uint32, at pos, chainBytes uint32, bytes int) []byte {
	from := b.room(bytes)
	b.versions = append(b.versions, versionOp{uint64(b.rankOf(space))<<32 | uint64(page), uint32(from), uint32(bytes), true, chainBytes, at})
	return b.data[from : from+bytes : from+bytes]
}

// setState adds the decoder's state, of one chunk at most, from a place on.
func (b *writeSet) setState(at pos, state []byte) {
	b.states = append(b.states, stateOp{at, state, b.joinable})
	b.stateBytes += len(state) + posBytes
	b.joinable = true
}

// endStates has the next state begin anew: another kind of state comes between.
func (b *writeSet) endStates() { b.joinable = false }

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
