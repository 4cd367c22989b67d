package pages

import (
	"errors"
	"fmt"
	"slices"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// emitter collects the records of one entry. It is the effect.Sink of its WAL. All changes of a page, one behind the other, make one redo
// record.
type emitter struct {
	s       *state
	records []engine.Record
	open    map[pageKey]int // the redo records that can take more
	effects effect.Interpreter
}

type pageKey struct {
	space engine.Space
	page  uint32
}

// redoBytesFull is how long a redo record may get before the next begins.
const redoBytesFull = engine.RedoBytesMax / 4

// apply makes the changes of all records that d has.
func (e *emitter) apply(d *wal.Decoder) error {
	s := e.s
	e.open = map[pageKey]int{}
	e.effects = effect.Interpreter{Counters: s.counters, Settings: s.settings, Sink: e}
	var r wal.Record
	for {
		err := d.Next(&r)
		if errors.Is(err, wal.ErrMore) {
			s.counters, s.settings = e.effects.Counters, e.effects.Settings
			return nil
		}
		if err == nil && r.Start >= s.base.Start {
			err = e.effects.Apply(&r)
			if at, ok := wal.EndTime(&r); ok {
				s.lastCommit = max(s.lastCommit, at)
			}
		}
		if err != nil {
			return fmt.Errorf("pages: %w", err)
		}
		s.from, s.prev = r.End, r.Start
	}
}

func (e *emitter) add(r engine.Record) { e.records = append(e.records, r) }

func (e *emitter) put(key string, data []byte) { e.add(put(key, slices.Clone(data))) }

// structure adds a change of something larger than a page: what came before it stays before it.
func (e *emitter) structure(r engine.Record) error {
	e.add(r)
	clear(e.open)
	return nil
}

// redo returns the data of the redo record that takes the next change of a page, to be given back to set. With init the page's content before does not matter.
func (e *emitter) redo(key pageKey, init bool) (i int, data []byte) {
	i, ok := e.open[key]
	if !ok || !init && len(e.records[i].Data) > redoBytesFull {
		i = len(e.records)
		e.add(engine.Record{Op: engine.OpRedo, Space: key.space, Page: key.page, PageSize: pageBytes, Init: init, Data: append(make([]byte, 0, 120), redoVersion)})
		e.open[key] = i
	}
	r := &e.records[i]
	if init {
		r.Init, r.Data = true, r.Data[:1]
	}
	return i, r.Data
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
	i, data := e.redo(pageKey{RelationSpace(b.Relation, b.Fork), b.Number}, image || b.WillInit)
	begin := len(data)
	setting := byte(0)
	if e.effects.HintBitsLogged {
		setting |= settingHintBits
	}
	data = append(beginItem(data, itemRecord), setting)
	for at := range r.Blocks {
		if &r.Blocks[at] == b {
			data = r.AppendExcerpt(data, at, image)
		}
	}
	endItem(data, begin)
	e.records[i].Data = data
	return nil
}

// edit adds an edit of a page.
func (e *emitter) edit(key pageKey, init bool, edit page.Edit) error {
	i, data := e.redo(key, init)
	begin := len(data)
	data = append(beginItem(data, itemEdit), edit...)
	endItem(data, begin)
	e.records[i].Data = data
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
	clear(e.open)
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
	clear(e.open)
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
		e.put(keys.Part(path, parts), file[:n])
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
