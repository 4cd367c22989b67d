// Package engine is the vocabulary between database engines and the page server:
// what a decoder makes of a log entry's payload. One sub-package per engine
// implements it; the page server knows no engine.
package engine

import (
	"cmp"
	"fmt"
)

// Space names a page file of a database inside its log: a relation fork, the one file
// of an SQLite database. The engine chooses the 128 bits. Spaces with the same Hi are a
// group, what OpDropGroup and OpCopyGroup work on: the relations of one database. They
// are ordered by Hi, then by Lo.
type Space struct{ Hi, Lo uint64 }

// SpaceOf returns the space of an engine that numbers its page files: Hi is 0.
func SpaceOf(n uint64) Space { return Space{Lo: n} }

// Compare orders spaces by Hi, then by Lo.
func (s Space) Compare(t Space) int {
	return cmp.Or(cmp.Compare(s.Hi, t.Hi), cmp.Compare(s.Lo, t.Lo))
}

// String is Lo in decimal when Hi is 0, otherwise both in hexadecimal.
func (s Space) String() string {
	if s.Hi == 0 {
		return fmt.Sprintf("%d", s.Lo)
	}
	return fmt.Sprintf("%x:%x", s.Hi, s.Lo)
}

// Op says what a Record does.
type Op uint8

// The operations of a Record.
const (
	OpImage     Op = 1 // Page becomes Data, a whole page
	OpDelta     Op = 2 // the Ranges are overwritten in Page's previous content
	OpTruncate  Op = 3 // the space becomes Page pages long; a longer one loses pages, a shorter one gains zero pages
	OpDrop      Op = 4 // the space goes
	OpRedo      Op = 5 // Decoder.Redo turns Page's previous content into the new one when somebody reads it
	OpDropGroup Op = 6 // every space with Space's Hi goes
	OpCopyGroup Op = 7 // every space with the Hi From is copied, as it is before this record, under Space's Hi; what was there goes
	OpPut       Op = 8 // the object Key becomes Data; nil removes it
)

// Range is a byte range of a page and its new content.
type Range struct {
	Offset uint32
	Data   []byte
}

// Record is one change of a page, a space, a group of spaces or an object.
type Record struct {
	Space    Space   // of OpDropGroup and OpCopyGroup only Hi counts, Lo is 0; of OpPut zero
	Op       Op      //
	Init     bool    // OpRedo: the previous content does not matter, Redo gets a page of zeros
	Page     uint32  // from 0; for OpTruncate the new length in pages
	PageSize uint32  // bytes; every record of a space carries the same; 0 where there is no page
	Data     []byte  // OpImage, OpRedo, OpPut
	Ranges   []Range // OpDelta, ascending, not overlapping
	From     uint64  // OpCopyGroup
	Key      []byte  // OpPut
}

// Decoder turns the payloads of a log into records, and redo records into pages. Its
// methods may be called by many goroutines.
type Decoder interface {
	// Decode returns the records of one entry's payload, in order. It is a pure function
	// of state and payload. state is nil at a log's beginning; next is what the call for
	// the log's next entry gets, at most StateBytesMax long, the very slice it got when
	// nothing changed; it shares no memory with payload, and the decoder never writes to a
	// state that it has returned. Payloads come in the order in which they take effect: the
	// parts of a transaction at its COMMIT, those of an aborted one never. A decoder
	// without a state returns nil. The page server keeps every state with its LSN; a branch begins with
	// its parent's at the branch LSN. The records' slices point into payload or are fresh.
	// A malformed payload is an error that wraps logcore.ErrCorrupt or
	// logcore.ErrUnsupportedVersion.
	Decode(state, payload []byte) (records []Record, next []byte, err error)
	// Redo applies the Data of an OpRedo record of the log to a page in place: its
	// previous content, or zeros when the page was not written before. It is
	// deterministic and keeps neither slice. An error means that the page is corrupt, or
	// the record is; it wraps logcore.ErrCorrupt.
	Redo(page, data []byte) error
}

// Limits of what a decoder may return.
const (
	// PageSizeMax is the largest page, in bytes.
	PageSizeMax = 1 << 16
	// RangeBytesMax is the longest range of a delta, in bytes. A longer change is a
	// whole page and goes as an image.
	RangeBytesMax = PageSizeMax - 1
	// RedoBytesMax is the longest Data of an OpRedo record, in bytes: a page's worth of
	// changes, its header, and room for an engine's own framing.
	RedoBytesMax = 4 * PageSizeMax
	// KeyBytesMax is the longest key of an object, in bytes.
	KeyBytesMax = 256
	// ObjectBytesMax is the largest object, in bytes.
	ObjectBytesMax = 1 << 20
	// StateBytesMax is the largest state of a decoder, in bytes.
	StateBytesMax = 64 << 20
)
