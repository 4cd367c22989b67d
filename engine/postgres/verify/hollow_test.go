package verify_test

import (
	"testing"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/verify"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// mapPage is a page of a visibility map with these bytes of content.
func mapPage(content ...byte) page.Page {
	p := make(page.Page, page.Bytes)
	p.Init(0)
	copy(p[page.HeaderBytes:], content)
	return p
}

// hollowLog is what CREATE DATABASE and then VACUUM write of a map: its page without content, and then, with the page as the server has it, the
// mark of heap page 1.
func hollowLog(theirs page.Page) []*wal.Record {
	relation, heap := wal.Relation{Tablespace: 1663, Database: 5, File: 1259}, make(page.Page, page.Bytes)
	heap.Init(0)
	heap.SetFlag(page.AllVisible, true)
	const fpi, visible = 0xB0, 0x40
	image := func(p page.Page, apply bool) wal.Image { return wal.Image{Apply: apply, Bytes: p} }
	return []*wal.Record{
		{Start: 100, End: 200, Manager: wal.ManagerXLog, Info: fpi, Blocks: []wal.Block{{Relation: relation, Fork: wal.ForkVM, HasImage: true,
			Image: wal.Image{Apply: true, HoleOffset: page.HeaderBytes, HoleBytes: page.Bytes - page.HeaderBytes, Bytes: mapPage()[:page.HeaderBytes]}}}},
		{Start: 200, End: 300, Manager: wal.ManagerHeap2, Info: visible, Data: []byte{0, 0, 0, 0, 1}, Blocks: []wal.Block{
			{Relation: relation, Fork: wal.ForkVM, HasImage: true, Image: image(theirs, false)},
			{ID: 1, Relation: relation, Number: 1, HasImage: true, Image: image(heap, true)}}},
		{Start: 300, End: 400, Manager: wal.ManagerHeap2, Info: visible, Data: []byte{0, 0, 0, 0, 1}, Blocks: []wal.Block{
			{Relation: relation, Fork: wal.ForkVM, HasImage: true, Image: image(theirs, false)},
			{ID: 1, Relation: relation, Number: 1, HasImage: true, Image: image(heap, true)}}},
	}
}

// A map that was logged without its content is told apart from one that was redone wrong, and is compared in full from its next record on.
func TestMapsLoggedWithoutTheirContent(t *testing.T) {
	otherHeader := mapPage(0b0111, 3)
	otherHeader.SetLower(28)
	for _, c := range []struct {
		name                    string
		theirs                  page.Page
		unlogged, equal, differ uint64
	}{
		{"bits of other pages", mapPage(0b0111, 3), 1, 1, 0},
		{"nothing was lost", mapPage(0b0100), 0, 2, 0},
		{"the record's own bit", mapPage(0b1111), 0, 0, 1},
		{"the header", otherHeader, 0, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := verify.New(redo.Redo{}, func(*verify.Difference) {})
			for _, r := range hollowLog(c.theirs) {
				v.Record(r)
			}
			got := total(v)
			if got.Unlogged != c.unlogged || got.Differ != c.differ || got.Failed != 0 || c.differ == 0 && got.Equal != c.equal {
				t.Errorf("%+v, want %d not logged, %d equal, %d different", got, c.unlogged, c.equal, c.differ)
			}
		})
	}
}

// Without the hole the same is a difference, and behind the first comparison it is one again.
func TestMapsThatWereLoggedWhole(t *testing.T) {
	log := hollowLog(mapPage(0b0111, 3))
	log[0].Blocks[0].Image = wal.Image{Apply: true, Bytes: mapPage()}
	later := hollowLog(mapPage(0b0111, 3))
	later[2].Blocks[0].Image.Bytes = mapPage(0b0111, 3, 1)
	for _, records := range [][]*wal.Record{log, later} {
		v := verify.New(redo.Redo{}, func(*verify.Difference) {})
		for _, r := range records {
			v.Record(r)
		}
		if got := total(v); got.Differ != 1 {
			t.Errorf("%+v, want one difference", got)
		}
	}
}

// A page that was never written is redone from zeros once the verifier knows all others, also where the map was truncated.
func TestPagesThatWereNeverWritten(t *testing.T) {
	truncate := &wal.Record{Manager: wal.ManagerStorage, Info: 0x20, Data: []byte{0, 0, 0, 0, 0x7F, 6, 0, 0, 5, 0, 0, 0, 0xEB, 4, 0, 0, 7, 0, 0, 0}}
	for _, c := range []struct {
		name           string
		all            bool
		equal, unknown uint64
	}{{"known", true, 4, 0}, {"not known", false, 2, 2}} {
		t.Run(c.name, func(t *testing.T) {
			v := verify.New(redo.Redo{}, func(d *verify.Difference) { t.Error(d) })
			if c.all {
				v.KnowsAll()
			}
			for _, r := range append(append(hollowLog(mapPage(0b0100))[1:], truncate), hollowLog(mapPage(0b0100))[1:]...) {
				v.Record(r)
			}
			if got := total(v); got.Equal != c.equal || got.Unknown != c.unknown {
				t.Errorf("%+v, want %d equal and %d unknown", got, c.equal, c.unknown)
			}
		})
	}
}

// Of a map that is truncated the bits of the pages that stay are kept: what a record does beside its blocks is part of what is compared.
func TestMapsThatAreTruncated(t *testing.T) {
	truncate := &wal.Record{Manager: wal.ManagerStorage, Info: 0x20, Data: []byte{2, 0, 0, 0, 0x7F, 6, 0, 0, 5, 0, 0, 0, 0xEB, 4, 0, 0, 7, 0, 0, 0}}
	for _, c := range []struct {
		name   string
		theirs page.Page
		differ uint64
	}{{"as it should", mapPage(0b0101), 0}, {"cut too much", mapPage(0b0100), 0}, {"cut too little", mapPage(0b010101), 1}} {
		t.Run(c.name, func(t *testing.T) {
			v := verify.New(redo.Redo{}, func(*verify.Difference) {})
			v.Know(wal.Relation{Tablespace: 1663, Database: 5, File: 1259}, wal.ForkVM, 0, mapPage(0b010001, 0xFF))
			v.Record(truncate)
			v.Record(hollowLog(c.theirs)[1])
			got := total(v)
			if got.Differ != c.differ || c.name == "cut too much" != (v.EarlyLeft() == 1) {
				t.Errorf("%+v, %d bits cleared early, want %d different", got, v.EarlyLeft(), c.differ)
			}
		})
	}
}
