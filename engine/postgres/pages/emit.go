package pages

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// emitter decodes the payloads of one transaction. It is the effect.Sink of its WAL, and the backup.Sink of the archives in it. All changes of a page by one payload, one behind the
// other, make one redo record. They are collected in buffers that are used again, and laid out once all of them are known: a payload costs as many
// allocations with many records as with few.
type emitter struct {
	before  []byte // the state before the transaction
	s       state
	changed bool
	last    bool // the payload at hand is the transaction's last
	reading bool // walker has what came of the WAL since before
	long    bool // the state's pending bytes are too many, and were not kept
	walker  wal.Decoder
	record  wal.Record
	effects effect.Interpreter

	out    []engine.Record // of the payload at hand; the data of redo records comes last
	chains []chain
	items  []item
	bytes  []byte // the items' content
	open   pageIndex
}

// chain is what becomes the data of one redo record: its items, linked by their numbers.
type chain struct {
	key         pageKey
	record      int // in out
	first, last int32
	bytes       int
}

// item is one item of redo data, in bytes[from:to].
type item struct {
	from, to int
	next     int32 // none: the last
}

const none = -1

type pageKey struct {
	space engine.Space
	page  uint32
}

// redoBytesFull is how long a redo record may get before the next begins.
const redoBytesFull = engine.RedoBytesMax / 4

// emitters are those that Decode is done with.
var emitters = sync.Pool{New: func() any { return new(emitter) }}

// keptBytesMax bounds the buffers that are kept for the next payload.
const keptBytesMax = 4 << 20

// release gives the emitter back, with nothing of what it decoded.
func (e *emitter) release() {
	if cap(e.bytes) > keptBytesMax || cap(e.out) > keptBytesMax/128 {
		return
	}
	clear(e.out[:cap(e.out)])
	e.before, e.out = nil, e.out[:0]
	e.s.forget()
	e.walker = wal.Decoder{}
	e.reset()
	emitters.Put(e)
}

// reset empties the buffers.
func (e *emitter) reset() {
	e.chains, e.items, e.bytes = e.chains[:0], e.items[:0], e.bytes[:0]
	e.open.clear()
}

// apply makes the changes of all records that walker has.
func (e *emitter) apply() error {
	s := &e.s
	e.effects.Counters, e.effects.Settings, e.effects.Sink = s.counters, s.settings, e
	r := &e.record
	for {
		err := e.walker.Next(r)
		if errors.Is(err, wal.ErrMore) {
			s.counters, s.settings = e.effects.Counters, e.effects.Settings
			return nil
		}
		if err == nil && r.Start >= s.base.Start {
			err = e.effects.Apply(r)
			if at, ok := wal.EndTime(r); ok {
				s.lastCommit = max(s.lastCommit, at)
			}
		}
		if err != nil {
			return fmt.Errorf("pages: %w", err)
		}
		s.from, s.prev = r.End, r.Start
	}
}

func (e *emitter) add(r engine.Record) { e.out = append(e.out, r) }

func (e *emitter) put(key string, data []byte) { e.add(put(key, slices.Clone(data))) }

// structure adds a change of something larger than a page: what came before it stays before it.
func (e *emitter) structure(r engine.Record) error {
	e.add(r)
	e.open.clear()
	return nil
}

// finish returns the payload's records.
func (e *emitter) finish() []engine.Record {
	if len(e.out) == 0 {
		return nil
	}
	total := 0
	for i := range e.chains {
		total += e.chains[i].bytes
	}
	data := make([]byte, 0, total)
	for i := range e.chains {
		c := &e.chains[i]
		from := len(data)
		data = append(data, redoVersion)
		for n := c.first; n != none; n = e.items[n].next {
			data = append(data, e.bytes[e.items[n].from:e.items[n].to]...)
		}
		e.out[c.record].Data = data[from:len(data):len(data)]
	}
	records := slices.Clone(e.out)
	e.out = e.out[:0]
	e.reset()
	return records
}

// begin begins an item of redo data and returns the buffer that it goes to, to be given back to end.
func (e *emitter) beginItem(kind byte) []byte { return append(e.bytes, kind, 0, 0, 0, 0) }

// endItem ends the item that began at from and makes it the next change of a page. With init the page's content before does not matter.
func (e *emitter) endItem(b []byte, from int, key pageKey, init bool) {
	endItem(b, from)
	e.bytes = b
	n := e.open.find(key)
	if n == none || !init && e.chains[n].bytes > redoBytesFull {
		n = int32(len(e.chains))
		e.chains = append(e.chains, chain{key: key, record: len(e.out), first: none, bytes: 1})
		e.add(engine.Record{Op: engine.OpRedo, Space: key.space, Page: key.page, PageSize: pageBytes, Init: init})
		e.open.set(key, n)
	}
	c := &e.chains[n]
	if init {
		e.out[c.record].Init = true
		c.first, c.bytes = none, 1
	}
	next := int32(len(e.items))
	e.items = append(e.items, item{from, len(b), none})
	if c.first == none {
		c.first = next
	} else {
		e.items[c.last].next = next
	}
	c.last = next
	c.bytes += len(b) - from
}

// Block implements effect.Sink.
func (e *emitter) Block(r *wal.Record, b *wal.Block) error {
	if err := redo.Possible(r, b); err != nil {
		return err
	}
	image := redo.TakesImage(r, b)
	if !image && redo.Nothing(r) {
		return nil
	}
	setting := byte(0)
	if e.effects.HintBitsLogged {
		setting |= settingHintBits
	}
	from := len(e.bytes)
	data := append(e.beginItem(itemRecord), setting)
	for at := range r.Blocks {
		if &r.Blocks[at] == b {
			data = r.AppendExcerpt(data, at, image)
		}
	}
	e.endItem(data, from, pageKey{RelationSpace(b.Relation, b.Fork), b.Number}, image || b.WillInit)
	return nil
}

// edit adds an edit of a page.
func (e *emitter) edit(key pageKey, init bool, edit page.Edit) error {
	from := len(e.bytes)
	e.endItem(append(e.beginItem(itemEdit), edit...), from, key, init)
	return nil
}

// EditMap implements effect.Sink.
func (e *emitter) EditMap(rel wal.Relation, mapPage uint32, edit page.Edit) error {
	return e.edit(pageKey{RelationSpace(rel, wal.ForkVM), mapPage}, false, edit)
}

// EditSLRU implements effect.Sink.
func (e *emitter) EditSLRU(s effect.SLRU, n uint32, edit page.Edit, fresh bool) error {
	segment := n / effect.SegmentPages
	e.s.segments[s].add(segment)
	return e.edit(pageKey{SLRUSpace(s, segment), n % effect.SegmentPages}, fresh, edit)
}

// DropSegments implements effect.Sink.
func (e *emitter) DropSegments(s effect.SLRU, gone func(uint32) bool) error {
	e.s.segments[s].remove(gone, func(n uint32) { e.add(engine.Record{Op: engine.OpDrop, Space: SLRUSpace(s, n)}) })
	e.open.clear()
	return nil
}

// Create implements effect.Sink. What there may be is of later than this record: the base backup was made while the server ran.
func (e *emitter) Create(rel wal.Relation, f wal.Fork) error { return e.Truncate(rel, f, 0) }

// Truncate implements effect.Sink.
func (e *emitter) Truncate(rel wal.Relation, f wal.Fork, pages uint32) error {
	return e.structure(engine.Record{Op: engine.OpTruncate, Space: RelationSpace(rel, f), Page: pages, PageSize: pageBytes})
}

// Drop implements effect.Sink.
func (e *emitter) Drop(rel wal.Relation) error {
	for _, f := range effect.Forks {
		if f != wal.ForkFSM {
			e.add(engine.Record{Op: engine.OpDrop, Space: RelationSpace(rel, f)})
		}
	}
	e.open.clear()
	return nil
}

// CopyDatabase implements effect.Sink.
func (e *emitter) CopyDatabase(to, from effect.Database) error {
	return e.structure(engine.Record{Op: engine.OpCopyGroup, Space: engine.Space{Hi: Group(to)}, From: Group(from)})
}

// CreateDatabase implements effect.Sink: a database is there when its relation map is.
func (e *emitter) CreateDatabase(effect.Database) error { return nil }

// DropDatabase implements effect.Sink.
func (e *emitter) DropDatabase(d effect.Database) error {
	return e.structure(engine.Record{Op: engine.OpDropGroup, Space: engine.Space{Hi: Group(d)}})
}

// CreateTablespace implements effect.Sink.
func (e *emitter) CreateTablespace(oid uint32) error {
	e.put(fmt.Sprint(KeysOf(e.s.base.Start).Tablespaces(), oid), []byte{objectVersion})
	return nil
}

// DropTablespace implements effect.Sink.
func (e *emitter) DropTablespace(oid uint32) error {
	e.add(put(fmt.Sprint(KeysOf(e.s.base.Start).Tablespaces(), oid), nil))
	return nil
}

// PutRelationMap implements effect.Sink.
func (e *emitter) PutRelationMap(d effect.Database, content []byte) error {
	return e.structure(engine.Record{Op: engine.OpImage, Space: MapSpace(d), PageSize: effect.RelationMapBytes, Data: slices.Clone(content)})
}

// PutPrepared implements effect.Sink.
func (e *emitter) PutPrepared(xid uint32, file []byte) error {
	path := effect.PreparedPath(xid)
	keys := KeysOf(e.s.base.Start)
	if file == nil {
		e.add(put(keys.file(path), nil))
		return nil
	}
	parts := uint32(0)
	for ; len(file) > 0; parts++ {
		n := min(len(file), filePartBytes)
		e.add(put(keys.Part(path, parts), file[:n:n]))
		file = file[n:]
	}
	e.put(keys.file(path), FileHead{path, parts}.encode())
	return nil
}

// Parameters implements effect.Sink.
func (e *emitter) Parameters(b []byte) error {
	e.put(KeysOf(e.s.base.Start).Parameters(), b)
	return nil
}
