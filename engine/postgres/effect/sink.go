package effect

import (
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Database names the directory of a database in a tablespace.
type Database struct{ Tablespace, OID uint32 }

// Forks are the forks of a relation.
var Forks = []wal.Fork{wal.ForkMain, wal.ForkFSM, wal.ForkVM, wal.ForkInit}

// Sink makes the changes that the records of a log stand for. The calls come in the order of the
// changes; slices are valid only during the call. A method that has nothing to do says so by doing nothing.
type Sink interface {
	// Block redoes what r has for block b, which is in no free space map: those are left out.
	Block(r *wal.Record, b *wal.Block) error
	// EditMap changes a page of a relation's visibility map. When the map doesn't have the page there is nothing to change.
	EditMap(rel wal.Relation, mapPage uint32, e page.Edit) error
	// Create makes an empty fork, when it isn't there.
	Create(rel wal.Relation, f wal.Fork) error
	// Truncate makes a fork so many pages long, when it is longer.
	Truncate(rel wal.Relation, f wal.Fork, pages uint32) error
	// Drop removes all forks of a relation.
	Drop(rel wal.Relation) error

	// EditSLRU changes a page of an SLRU; one that isn't there is of zeros. With fresh its content before doesn't matter.
	EditSLRU(s SLRU, n uint32, e page.Edit, fresh bool) error
	// DropSegments removes the segments of an SLRU for which gone says so.
	DropSegments(s SLRU, gone func(segment uint32) bool) error

	// CopyDatabase makes a database a copy of another, whatever it was before.
	CopyDatabase(to, from Database) error
	CreateDatabase(d Database) error
	DropDatabase(d Database) error
	CreateTablespace(oid uint32) error
	DropTablespace(oid uint32) error
	// PutRelationMap makes content the pg_filenode.map of a database.
	PutRelationMap(d Database, content []byte) error
	// PutPrepared keeps the state file of a prepared transaction; nil is that the transaction is over. The bytes are the Sink's from then on.
	PutPrepared(xid uint32, file []byte) error
	// Parameters takes over the content of a PARAMETER_CHANGE record: see Control.SetParameters.
	Parameters(b []byte) error
}

// Discard is a Sink that does nothing: an Interpreter with it keeps only the counters.
type Discard struct{}

// Block implements Sink.
func (Discard) Block(*wal.Record, *wal.Block) error { return nil }

// EditMap implements Sink.
func (Discard) EditMap(wal.Relation, uint32, page.Edit) error { return nil }

// Create implements Sink.
func (Discard) Create(wal.Relation, wal.Fork) error { return nil }

// Truncate implements Sink.
func (Discard) Truncate(wal.Relation, wal.Fork, uint32) error { return nil }

// Drop implements Sink.
func (Discard) Drop(wal.Relation) error { return nil }

// EditSLRU implements Sink.
func (Discard) EditSLRU(SLRU, uint32, page.Edit, bool) error { return nil }

// DropSegments implements Sink.
func (Discard) DropSegments(SLRU, func(uint32) bool) error { return nil }

// CopyDatabase implements Sink.
func (Discard) CopyDatabase(_, _ Database) error { return nil }

// CreateDatabase implements Sink.
func (Discard) CreateDatabase(Database) error { return nil }

// DropDatabase implements Sink.
func (Discard) DropDatabase(Database) error { return nil }

// CreateTablespace implements Sink.
func (Discard) CreateTablespace(uint32) error { return nil }

// DropTablespace implements Sink.
func (Discard) DropTablespace(uint32) error { return nil }

// PutRelationMap implements Sink.
func (Discard) PutRelationMap(Database, []byte) error { return nil }

// PutPrepared implements Sink.
func (Discard) PutPrepared(uint32, []byte) error { return nil }

// Parameters implements Sink.
func (Discard) Parameters([]byte) error { return nil }
