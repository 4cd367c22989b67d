package verify

import (
	"slices"

	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// pages are all pages that a log touches, by relation, so that one can be dropped. What records do beside their
// blocks package effect says: it is what page servers and clusters go by too.
type pages struct {
	effect.Discard
	relations map[wal.Relation]map[forkPage]page.Page
	early     earlyBits
	hollow    hollowMaps
	before    page.Page // scratch
}

type forkPage struct {
	fork   wal.Fork
	number uint32
}

func newPages() *pages {
	return &pages{relations: map[wal.Relation]map[forkPage]page.Page{}, early: earlyBits{}, hollow: hollowMaps{}, before: make(page.Page, page.Bytes)}
}

func (s *pages) get(k pageKey) page.Page { return s.relations[k.relation][forkPage{k.fork, k.number}] }

func (s *pages) put(k pageKey, p page.Page) {
	of := s.relations[k.relation]
	if of == nil {
		of = map[forkPage]page.Page{}
		s.relations[k.relation] = of
	}
	of[forkPage{k.fork, k.number}] = p
}

func (s *pages) remove(k pageKey) { delete(s.relations[k.relation], forkPage{k.fork, k.number}) }

func (s *pages) count() (n int) {
	for _, of := range s.relations {
		n += len(of)
	}
	return n
}

// EditMap implements effect.Sink.
func (s *pages) EditMap(rel wal.Relation, mapPage uint32, e page.Edit) error {
	key := pageKey{rel, wal.ForkVM, mapPage}
	p := s.get(key)
	if p == nil {
		return nil
	}
	copy(s.before, p)
	if err := e.Apply(p); err != nil {
		return err
	}
	s.early.settle(key, s.before, p)
	return nil
}

// Truncate implements effect.Sink.
func (s *pages) Truncate(rel wal.Relation, f wal.Fork, pages uint32) error {
	for k := range s.relations[rel] {
		if k.fork == f && k.number >= pages {
			s.remove(pageKey{rel, k.fork, k.number})
		}
	}
	return nil
}

// Drop implements effect.Sink.
func (s *pages) Drop(rel wal.Relation) error {
	delete(s.relations, rel)
	return nil
}

// CopyDatabase implements effect.Sink.
func (s *pages) CopyDatabase(to, from effect.Database) error {
	if err := s.DropDatabase(to); err != nil {
		return err
	}
	copies := map[wal.Relation]map[forkPage]page.Page{}
	for rel, of := range s.relations {
		if rel.Tablespace != from.Tablespace || rel.Database != from.OID {
			continue
		}
		copied := make(map[forkPage]page.Page, len(of))
		for k, p := range of {
			copied[k] = slices.Clone(p)
		}
		copies[wal.Relation{Tablespace: to.Tablespace, Database: to.OID, File: rel.File}] = copied
	}
	for rel, of := range copies {
		s.relations[rel] = of
	}
	return nil
}

// DropDatabase implements effect.Sink.
func (s *pages) DropDatabase(d effect.Database) error {
	for rel := range s.relations {
		if rel.Tablespace == d.Tablespace && rel.Database == d.OID {
			delete(s.relations, rel)
		}
	}
	return nil
}
