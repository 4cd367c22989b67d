// Package verify compares redo with PostgreSQL itself: under wal_consistency_checking
// the server puts into each record the pages as they are after it. Every block of every
// record is redone here and compared with that image, byte for byte, after both are
// masked as the server masks them in the same check.
package verify

import (
	"bytes"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/waldump"
)

// Counts are what became of the blocks of one kind of record.
type Counts struct {
	Equal    uint64 `json:"equal"`      // redone, and the same as the server's
	Images   uint64 `json:"images"`     // came as an image that redo takes too: nothing to compare
	Unnative uint64 `json:"not_redone"` // of a resource manager that is not redone: the image was taken
	Unknown  uint64 `json:"unknown"`    // the page before the record isn't in the log: the image was taken
	NoImage  uint64 `json:"no_image"`   // redone, with nothing to compare
	Differ   uint64 `json:"differ"`
	Failed   uint64 `json:"failed"` // could not be redone

	// Early counts blocks of visibility maps in which the server's image lacks bits that
	// a later record clears: the server clears them before it logs that.
	Early uint64 `json:"early"`

	// Unlogged counts blocks of visibility maps in which the server has bits that its WAL has
	// not: CREATE DATABASE with the strategy wal_log logs a map's pages as it does a table's, without
	// what lies between lower and upper bound, and in a map everything does. A server that
	// replays the WAL lacks those bits too; they are only hints that a vacuum may pass a page over.
	Unlogged uint64 `json:"unlogged"`
}

// Add adds the counts of another kind.
func (c *Counts) Add(o Counts) {
	c.Equal += o.Equal
	c.Images += o.Images
	c.Unnative += o.Unnative
	c.Unknown += o.Unknown
	c.NoImage += o.NoImage
	c.Differ += o.Differ
	c.Failed += o.Failed
	c.Early += o.Early
	c.Unlogged += o.Unlogged
}

// Kind names a kind of record, as pg_waldump does: manager and operation.
type Kind struct{ Manager, Operation string }

// KindOf returns a record's kind.
func KindOf(r *wal.Record) Kind { return Kind{r.Manager.String(), waldump.Name(r.Manager, r.Op())} }

// Difference is a block that was not redone as the server did it.
type Difference struct {
	Record   wal.Position
	Kind     Kind
	Block    uint8
	Relation wal.Relation
	Fork     wal.Fork
	Page     uint32
	Offset   int // of the first byte that differs, -1 when redo failed
	Bytes    int // how many differ
	Err      error
}

// Error implements error.
func (d *Difference) Error() string {
	s := fmt.Sprintf("record %v, %s/%s, block %d: page %d of relation %d/%d/%d, fork %v: ", d.Record, d.Kind.Manager, d.Kind.Operation, d.Block, d.Page,
		d.Relation.Tablespace, d.Relation.Database, d.Relation.File, d.Fork)
	if d.Err != nil {
		return s + d.Err.Error()
	}
	return s + fmt.Sprintf("%d bytes differ, the first at offset %d", d.Bytes, d.Offset)
}

type pageKey struct {
	relation wal.Relation
	fork     wal.Fork
	number   uint32
}

// Verifier redoes a log. All pages that the log touches stay in memory.
type Verifier struct {
	redo         redo.Redo
	pages        *pages
	interpreter  effect.Interpreter
	byKind       map[Kind]*Counts
	differ       func(*Difference)
	mine, theirs page.Page // scratch
	knowsAll     bool
}

// New returns a verifier that knows no page yet. differ is called for each difference.
func New(r redo.Redo, differ func(*Difference)) *Verifier {
	s := newPages()
	return &Verifier{redo: r, pages: s, interpreter: effect.Interpreter{Sink: s, Settings: effect.Settings{HintBitsLogged: r.HintBitsLogged}},
		byKind: map[Kind]*Counts{}, differ: differ, mine: make(page.Page, page.Bytes), theirs: make(page.Page, page.Bytes)}
}

// Know gives the verifier a page as it is before the first record; p is the verifier's from then on.
func (v *Verifier) Know(relation wal.Relation, fork wal.Fork, number uint32, p page.Page) {
	v.pages.put(pageKey{relation, fork, number}, p)
}

// KnowsAll says that Know was given every page that there is before the first record. Another one was never
// written, so that its first record is redone too, on a page of zeros.
func (v *Verifier) KnowsAll() { v.knowsAll = true }

// Counts returns the counts so far, by kind of record.
func (v *Verifier) Counts() map[Kind]Counts {
	out := make(map[Kind]Counts, len(v.byKind))
	for k, c := range v.byKind {
		out[k] = *c
	}
	return out
}

// EarlyLeft returns how many bits of visibility maps the server's images lacked that no
// record has cleared yet. Behind the last record of a server that was stopped cleanly it is 0.
func (v *Verifier) EarlyLeft() int { return v.pages.early.left() }

// Pages returns how many pages are kept.
func (v *Verifier) Pages() int { return v.pages.count() }

// Record redoes and compares all blocks of one record, and does what it stands for beside them.
func (v *Verifier) Record(r *wal.Record) {
	kind := KindOf(r)
	if r.Manager < wal.ManagerCustomMin { // what an extension's does nobody knows
		if err := v.interpreter.Apply(r); err != nil {
			v.counts(kind).Failed++
			v.differ(&Difference{Record: r.Start, Kind: kind, Offset: -1, Err: err})
		}
	}
	if len(r.Blocks) == 0 {
		return
	}
	counts := v.counts(kind)
	for i := range r.Blocks {
		v.block(r, &r.Blocks[i], kind, counts)
	}
}

func (v *Verifier) counts(kind Kind) *Counts {
	counts := v.byKind[kind]
	if counts == nil {
		counts = &Counts{}
		v.byKind[kind] = counts
	}
	return counts
}

func (v *Verifier) block(r *wal.Record, b *wal.Block, kind Kind, counts *Counts) {
	key := pageKey{b.Relation, b.Fork, b.Number}
	p := v.pages.get(key)
	known := p != nil || v.knowsAll
	if p == nil {
		p = make(page.Page, page.Bytes)
		v.pages.put(key, p)
	}
	outcome := redo.Restored
	var err error
	if known || b.WillInit || b.HasImage && b.Image.Apply {
		outcome, err = v.redo.Block(r, b, p)
	}
	diff := Difference{Record: r.Start, Kind: kind, Block: b.ID, Relation: b.Relation, Fork: b.Fork, Page: b.Number, Offset: -1}
	if err != nil {
		counts.Failed++
		diff.Err = err
		v.differ(&diff)
		v.adopt(r, b, p, key)
		return
	}
	switch {
	case b.HasImage && b.Image.Apply:
		counts.Images++
		v.pages.hollow.note(key, &b.Image)
	case !known && !b.WillInit:
		if v.adopt(r, b, p, key) {
			counts.Unknown++
		} else {
			counts.NoImage++
		}
	case outcome == redo.Restored:
		counts.Unnative++
	case !b.HasImage:
		counts.NoImage++
	default:
		if err := b.Image.Restore(v.theirs); err != nil {
			counts.Failed++
			diff.Err = err
			v.differ(&diff)
			return
		}
		copy(v.mine, p)
		mask(r.Manager, b, v.mine)
		mask(r.Manager, b, v.theirs)
		if bytes.Equal(v.mine, v.theirs) {
			counts.Equal++
			return
		}
		if b.Fork == wal.ForkVM && v.pages.hollow.settle(r, key, p, v.mine, v.theirs) {
			counts.Unlogged++
			return
		}
		if b.Fork == wal.ForkVM && v.pages.early.note(key, v.mine, v.theirs) {
			counts.Early++
			return
		}
		counts.Differ++
		for i := range v.mine {
			if v.mine[i] != v.theirs[i] {
				if diff.Bytes++; diff.Offset < 0 {
					diff.Offset = i
				}
			}
		}
		v.differ(&diff)
		v.adopt(r, b, p, key)
	}
}

// mask masks what may differ. Of a visibility map the server masks everything; here only the
// header is, for its bits are derived and have to be right.
func mask(m wal.Manager, b *wal.Block, p page.Page) {
	if b.Fork == wal.ForkVM {
		p.SetLSN(0)
		p.SetChecksum(0)
		return
	}
	redo.Mask(m, p, b.Number)
}

// adopt goes on from the server's page. Without an image the page is forgotten.
func (v *Verifier) adopt(r *wal.Record, b *wal.Block, p page.Page, key pageKey) bool {
	if !b.HasImage || b.Image.Restore(p) != nil {
		v.pages.remove(key)
		return false
	}
	if !p.IsNew() {
		p.SetLSN(uint64(r.End))
	}
	return true
}
