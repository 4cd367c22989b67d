// Package engine is the vocabulary between database engines and the page server:
// what a decoder makes of a log entry's payload. One sub-package per engine
// implements it; the page server knows no engine.
package engine

// Space numbers a page file of a database inside its log: a relation fork, the one
// file of an SQLite database.
type Space uint32

// Op says what a Record does.
type Op uint8

// The operations of a Record.
const (
	OpImage    Op = 1 // Page becomes Data, a whole page
	OpDelta    Op = 2 // the Ranges are overwritten in Page's previous content
	OpTruncate Op = 3 // the space becomes Page pages long; a longer one loses pages, a shorter one gains zero pages
	OpDrop     Op = 4 // the space goes
)

// Range is a byte range of a page and its new content.
type Range struct {
	Offset uint32
	Data   []byte
}

// Record is one change of a page or a space.
type Record struct {
	Space    Space
	Op       Op
	Page     uint32  // from 0; for OpTruncate the new length in pages
	PageSize uint32  // bytes; every record of a space carries the same
	Data     []byte  // OpImage
	Ranges   []Range // OpDelta, ascending, not overlapping
}

// Decoder turns the payload of one log entry into records. It is a pure function
// of the payload and may be used by many goroutines. The records' slices point
// into payload. A malformed payload is an error that wraps logcore.ErrCorrupt or
// logcore.ErrUnsupportedVersion.
type Decoder interface {
	Decode(payload []byte) ([]Record, error)
}
