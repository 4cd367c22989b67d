// Package redo brings PostgreSQL's data pages from before a WAL record to after it, as
// the server does in recovery, one page at a time: a record that changes several pages is
// redone on each of them apart, so a page can be made from its own records alone.
//
// One file for each resource manager. Heap, Heap2, Btree, XLOG, Sequence and Generic are
// redone; the other index types have to bring the page as it is after the record, which they do under
// wal_consistency_checking. Source: the redo functions of PostgreSQL 15, heapam.c,
// nbtxlog.c, xlog.c, sequence.c and generic_xlog.c.
package redo

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Redo knows what of the server's configuration matters to redo.
type Redo struct {
	// HintBitsLogged is true for a cluster with data checksums or wal_log_hints: marking a
	// heap page all-visible then moves its LSN.
	HintBitsLogged bool
}

// Outcome is what Block did.
type Outcome uint8

// The outcomes of Block.
const (
	Redone    Outcome = iota // the change was made
	Restored                 // the record's image was taken
	Skipped                  // the page has the record already
	Untouched                // the record has nothing for this page
)

// Block makes the change of record r to the page that its block reference b names. p holds the page
// as it was before and, afterwards, as it is after, except for its checksum; a page that was never
// written is all zeros. A record that doesn't fit the page is logcore.ErrCorrupt, one that can't be redone
// logcore.ErrUnsupportedVersion; in both cases p is undefined.
func (o Redo) Block(r *wal.Record, b *wal.Block, p page.Page) (Outcome, error) {
	if TakesImage(r, b) {
		if err := b.Image.Restore(p); err != nil {
			return 0, fmt.Errorf("redo: %w", o.place(r, b, err))
		}
		if !p.IsNew() {
			p.SetLSN(uint64(r.End))
		}
		if err := afterImage(r, b, p); err != nil {
			return 0, fmt.Errorf("redo: %w", o.place(r, b, err))
		}
		return Restored, nil
	}
	if !b.WillInit && !p.IsNew() && p.LSN() >= uint64(r.End) {
		return Skipped, nil
	}
	if err := Possible(r, b); err != nil {
		return 0, err
	}
	c := change{Redo: o, r: r, b: b, p: p, op: r.Op()}
	c.main.B, c.data.B = r.Data, b.Data
	done, err := c.make()
	if err == nil && (c.main.Short || c.data.Short) {
		err = fmt.Errorf("the record is too short")
	}
	if err != nil {
		return 0, fmt.Errorf("redo: %w", o.place(r, b, fmt.Errorf("%w: %w", logcore.ErrCorrupt, err)))
	}
	if !done {
		return Untouched, nil
	}
	if !c.keepLSN {
		p.SetLSN(uint64(r.End))
	}
	return Redone, nil
}

func (o Redo) place(r *wal.Record, b *wal.Block, err error) error {
	return fmt.Errorf("record %v (%v, operation %02X), block %d (relation %d/%d/%d fork %v page %d): %w",
		r.Start, r.Manager, r.Op(), b.ID, b.Relation.Tablespace, b.Relation.Database, b.Relation.File, b.Fork, b.Number, err)
}

// redone are the resource managers whose changes make knows.
var redone = [256]bool{wal.ManagerXLog: true, wal.ManagerHeap: true, wal.ManagerHeap2: true, wal.ManagerBtree: true, wal.ManagerSequence: true, wal.ManagerGeneric: true}

// make makes the change; false says that there was none to make. The calls are direct, so that a change needs no memory of its own.
func (c *change) make() (bool, error) {
	switch c.r.Manager {
	case wal.ManagerXLog:
		return redoXLog(c)
	case wal.ManagerHeap:
		return redoHeap(c)
	case wal.ManagerHeap2:
		return redoHeap2(c)
	case wal.ManagerBtree:
		return redoBtree(c)
	case wal.ManagerSequence:
		return redoSequence(c)
	default:
		return redoGeneric(c)
	}
}

// TakesImage reports whether redo of a block takes its image, in place of the change that the record describes.
func TakesImage(r *wal.Record, b *wal.Block) bool {
	return b.HasImage && (b.Image.Apply || !redone[r.Manager])
}

// Possible is nil when Block can redo a block as far as can be said without its page; otherwise logcore.ErrUnsupportedVersion, which names the
// record and says what to do.
func Possible(r *wal.Record, b *wal.Block) error {
	if b.HasImage || redone[r.Manager] {
		return nil
	}
	return fmt.Errorf("redo: %w", Redo{}.place(r, b, fmt.Errorf("%w: its resource manager is not redone here, and it brings no image of the page: set wal_consistency_checking for it on the server", logcore.ErrUnsupportedVersion)))
}

// change is one record's change of one page, under way.
type change struct {
	Redo
	r          *wal.Record
	b          *wal.Block
	p          page.Page
	op         uint8
	main, data fields // of the record; of the block
	keepLSN    bool
}

func (c *change) unknown() (bool, error) {
	return false, fmt.Errorf("operation %02X has no block %d", c.op, c.b.ID)
}

// fields are those of a record; numbers of two bytes are mostly item numbers and lengths.
type fields struct{ wal.Fields }

func (f *fields) u16() int { return int(f.U16()) }

// numbers takes n item numbers.
func (f *fields) numbers(n int) []int {
	if n > len(f.B)/2 {
		f.Short = true
		return nil
	}
	out := make([]int, n)
	for i := range out {
		out[i] = f.u16()
	}
	return out
}

// Nothing reports whether a record has nothing for its blocks but images that it may leave out.
func Nothing(r *wal.Record) bool { return r.Manager == wal.ManagerXLog && r.Op() == fpiForHint }

const fpiForHint = 0xA0

// redoXLog: its records with blocks have nothing but images. A hint's image is left out
// when the server writes none.
func redoXLog(c *change) (bool, error) {
	if Nothing(c.r) {
		return false, nil
	}
	return false, fmt.Errorf("a page image is missing")
}

// redoSequence makes the one page of a sequence anew.
func redoSequence(c *change) (bool, error) {
	const magic, magicBytes = 0x1717, 4
	c.main.Take(12) // the relation
	c.p.Init(magicBytes)
	binary.LittleEndian.PutUint32(c.p[c.p.Special():], magic)
	return true, c.p.AddItem(1, c.main.Rest())
}

// redoGeneric overwrites ranges of the page, and clears the gap in its middle.
func redoGeneric(c *change) (bool, error) {
	for len(c.data.B) > 0 {
		offset, n := c.data.u16(), c.data.u16()
		if b := c.data.Take(n); offset+n <= len(c.p) {
			copy(c.p[offset:], b)
			continue
		}
		return false, fmt.Errorf("%d bytes at offset %d of a page", n, offset)
	}
	lower, upper := c.p.Lower(), c.p.Upper()
	if lower > upper || upper > page.Bytes {
		return false, fmt.Errorf("lower %d, upper %d", lower, upper)
	}
	clear(c.p[lower:upper])
	return true, nil
}
