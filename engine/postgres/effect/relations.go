package effect

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// applyStorage creates and truncates relations.
func (i *Interpreter) applyStorage(r *wal.Record, f *wal.Fields) error {
	const create, truncate = 0x10, 0x20
	const truncateHeap, truncateVM = 1 << 0, 1 << 1
	switch r.Op() {
	case create:
		rel, fork := f.Relation(), wal.Fork(f.U32())
		if f.Short || fork == wal.ForkFSM {
			return nil
		}
		return i.Sink.Create(rel, fork)
	case truncate:
		pages, rel, flags := f.U32(), f.Relation(), f.U32()
		if f.Short {
			return nil
		}
		if flags&truncateHeap != 0 {
			if err := i.Sink.Truncate(rel, wal.ForkMain, pages); err != nil {
				return err
			}
		}
		if flags&truncateVM != 0 {
			return i.truncateVM(rel, pages)
		}
	}
	return nil
}

// truncateVM clears what a visibility map says of pages that are gone.
func (i *Interpreter) truncateVM(r wal.Relation, heapPages uint32) error {
	const heapPagesPerByte, bitsPerHeapPage, headerBytes = 4, 2, 24
	const perMapPage = (page.Bytes - headerBytes) * heapPagesPerByte
	mapPage, inPage := heapPages/perMapPage, heapPages%perMapPage
	if inPage == 0 {
		return i.Sink.Truncate(r, wal.ForkVM, mapPage)
	}
	at, shift := headerBytes+int(inPage/heapPagesPerByte), inPage%heapPagesPerByte*bitsPerHeapPage
	e := page.Edit(i.buffer()).Clear(at+1, page.Bytes).Bits(at, 1<<shift-1, 0)
	if err := i.Sink.EditMap(r, mapPage, e); err != nil {
		return err
	}
	return i.Sink.Truncate(r, wal.ForkVM, mapPage+1)
}

// applyDatabase copies, makes and drops databases.
func (i *Interpreter) applyDatabase(r *wal.Record, f *wal.Fields) error {
	const copyFiles, create, drop = 0x00, 0x10, 0x20
	switch r.Op() {
	case copyFiles:
		db, tablespace, fromDB, fromTablespace := f.U32(), f.U32(), f.U32(), f.U32()
		if f.Short {
			return nil
		}
		return i.Sink.CopyDatabase(Database{tablespace, db}, Database{fromTablespace, fromDB})
	case create:
		db, tablespace := f.U32(), f.U32()
		if f.Short {
			return nil
		}
		return i.Sink.CreateDatabase(Database{tablespace, db})
	case drop:
		db, n := f.U32(), f.U32()
		for range n {
			tablespace := f.U32()
			if f.Short {
				return nil
			}
			if err := i.Sink.DropDatabase(Database{tablespace, db}); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyTablespace makes and drops tablespaces.
func (i *Interpreter) applyTablespace(r *wal.Record, f *wal.Fields) error {
	const create, drop = 0x00, 0x10
	oid := f.U32()
	switch {
	case f.Short:
	case r.Op() == create:
		return i.Sink.CreateTablespace(oid)
	case r.Op() == drop:
		return i.Sink.DropTablespace(oid)
	}
	return nil
}

// RelationMapBytes is the length of a pg_filenode.map, RelationMapPath its name in the directory of its database.
const (
	RelationMapBytes = 512
	RelationMapPath  = "pg_filenode.map"
)

// applyRelMap replaces a map from mapped relations, the catalogs, to their files.
func (i *Interpreter) applyRelMap(_ *wal.Record, f *wal.Fields) error {
	const checksumAt = 504
	db, tablespace, n := f.U32(), f.U32(), f.U32()
	b := f.Take(RelationMapBytes)
	if n != RelationMapBytes || f.Short {
		return fmt.Errorf("%w: a relation map of %d bytes", logcore.ErrUnsupportedVersion, n)
	}
	content := append([]byte(nil), b...)
	putChecksum(content[checksumAt:], content[:checksumAt])
	return i.Sink.PutRelationMap(Database{tablespace, db}, content)
}
