package pages

import (
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// What a space is. Spaces of one database in one tablespace are a group; Hi of an SLRU's is one that no tablespace has.
const (
	mapLo = 0xFF // Lo of a database's relation map: of file 0, a fork that there isn't
)

// Group returns the Hi of the spaces of a database.
func Group(d effect.Database) uint64 { return uint64(d.Tablespace)<<32 | uint64(d.OID) }

// RelationSpace returns the space of a fork.
func RelationSpace(r wal.Relation, f wal.Fork) engine.Space {
	return engine.Space{Hi: Group(effect.Database{Tablespace: r.Tablespace, OID: r.Database}), Lo: uint64(r.File)<<8 | uint64(f)}
}

// MapSpace returns the space that holds the relation map of a database: one page of effect.RelationMapBytes.
func MapSpace(d effect.Database) engine.Space { return engine.Space{Hi: Group(d), Lo: mapLo} }

// SLRUSpace returns the space of a segment of an SLRU: its pages, numbered from the segment's first.
func SLRUSpace(s effect.SLRU, segment uint32) engine.Space {
	return engine.Space{Hi: uint64(s) + 1, Lo: uint64(segment)}
}

// Place is what a space holds: one of a relation's forks, a database's relation map, a segment of an SLRU.
type Place struct {
	Kind     PlaceKind
	Relation wal.Relation
	Fork     wal.Fork
	Database effect.Database // of a map
	SLRU     effect.SLRU
	Segment  uint32
}

// PlaceKind says which of them.
type PlaceKind uint8

// The kinds of places.
const (
	PlaceRelation PlaceKind = iota + 1
	PlaceMap
	PlaceSLRU
)

// PlaceOf returns what a space holds; false for one that this package makes none of.
func PlaceOf(s engine.Space) (Place, bool) {
	d := effect.Database{Tablespace: uint32(s.Hi >> 32), OID: uint32(s.Hi)}
	switch {
	case d.Tablespace == 0:
		ok := s.Hi >= 1 && s.Hi <= uint64(effect.SLRUs) && s.Lo <= 1<<32-1
		return Place{Kind: PlaceSLRU, SLRU: effect.SLRU(s.Hi - 1), Segment: uint32(s.Lo)}, ok
	case s.Lo == mapLo:
		return Place{Kind: PlaceMap, Database: d}, true
	}
	f := wal.Fork(s.Lo)
	return Place{Kind: PlaceRelation, Relation: wal.Relation{Tablespace: d.Tablespace, Database: d.OID, File: uint32(s.Lo >> 8)}, Fork: f}, f <= wal.ForkInit && s.Lo>>40 == 0
}

// Path returns the file of page n inside the data directory, and where in it the page begins.
func (p Place) Path(n uint32) (path string, offset int64) {
	switch p.Kind {
	case PlaceSLRU:
		return p.SLRU.Path(p.Segment), int64(n) * pageBytes
	case PlaceMap:
		return wal.DatabasePath(p.Database.Tablespace, p.Database.OID) + "/" + effect.RelationMapPath, 0
	}
	return p.Relation.FilePath(p.Fork, n)
}
