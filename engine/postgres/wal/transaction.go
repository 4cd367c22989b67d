package wal

import (
	"bytes"
	"encoding/binary"
)

// Operations of ManagerTransaction: Record.Op without the bit that says that details follow.
const (
	TransactionCommit         = 0x00
	TransactionPrepare        = 0x10
	TransactionAbort          = 0x20
	TransactionCommitPrepared = 0x30
	TransactionAbortPrepared  = 0x40
	TransactionAssignment     = 0x50
	TransactionInvalidations  = 0x60
	TransactionOpMask         = 0x70

	transactionHasInfo = 0x80
)

// What a commit or abort record has: Transaction.Info. The parts follow in an order of their own.
const (
	hasDatabase  = 1 << 0
	hasSubxacts  = 1 << 1
	hasRelations = 1 << 2
	hasInvals    = 1 << 3
	hasTwoPhase  = 1 << 4
	hasOrigin    = 1 << 5
	hasGID       = 1 << 7
	hasStats     = 1 << 8

	InfoHasOrigin     = hasOrigin
	InfoApplyFeedback = 1 << 29
	InfoInitFile      = 1 << 30 // the relation cache's file is out of date
	InfoForceSync     = 1 << 31
)

// List is a counted list inside a record: N items, one behind the other in Bytes.
type List struct {
	N     int
	Bytes []byte
}

// Number returns item i of a list of four-byte numbers.
func (l List) Number(i int) uint32 { return binary.LittleEndian.Uint32(l.Bytes[4*i:]) }

// Relation returns item i of a list of relations.
func (l List) Relation(i int) Relation {
	b := l.Bytes[12*i:]
	return Relation{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}
}

// Lengths of items.
const (
	relationBytes = 12
	statBytes     = 12
	// InvalidationBytes is the length of an invalidation message.
	InvalidationBytes = 16
)

// Transaction is a commit, abort or prepare record, taken apart. Its lists point into the record.
type Transaction struct {
	Time           int64 // microseconds since 2000-01-01 UTC
	Info           uint32
	Database       uint32
	Tablespace     uint32
	Subxacts       List // numbers
	Relations      List // to be dropped
	Stats          List
	Invalidations  List
	PreparedXID    uint32 // of what is committed or aborted; of what is prepared
	OriginPosition Position
	OriginTime     int64

	// Of a prepare record.
	GID            []byte
	AbortRelations List // to be dropped when it aborts; Relations when it commits
	AbortStats     List

	Short bool // the record is too short for what it announces
}

// ParseTransaction takes a commit or abort record of ManagerTransaction apart.
func ParseTransaction(r *Record) Transaction {
	c := Fields{B: r.Data}
	t := Transaction{Time: int64(c.U64())}
	if r.Info&transactionHasInfo != 0 {
		t.Info = c.U32()
	}
	has := func(bit uint32) bool { return t.Info&bit != 0 }
	if has(hasDatabase) {
		t.Database, t.Tablespace = c.U32(), c.U32()
	}
	if has(hasSubxacts) {
		t.Subxacts = c.list(4)
	}
	if has(hasRelations) {
		t.Relations = c.list(relationBytes)
	}
	if has(hasStats) {
		t.Stats = c.list(statBytes)
	}
	if has(hasInvals) {
		t.Invalidations = c.list(InvalidationBytes)
	}
	if has(hasTwoPhase) {
		t.PreparedXID = c.U32()
		if has(hasGID) {
			n := bytes.IndexByte(c.B, 0)
			if n < 0 {
				c.Short = true
			} else {
				t.GID = c.Take(n + 1)[:n]
			}
		}
	}
	if has(hasOrigin) {
		t.OriginPosition, t.OriginTime = Position(c.U64()), int64(c.U64())
	}
	t.Short = c.Short
	return t
}

// EndTime returns when a transaction ended, in microseconds since 2000-01-01 UTC; false for a record that ends none.
func EndTime(r *Record) (at int64, ok bool) {
	if r.Manager != ManagerTransaction || len(r.Data) < 8 {
		return 0, false
	}
	switch r.Op() & TransactionOpMask {
	case TransactionCommit, TransactionAbort, TransactionCommitPrepared, TransactionAbortPrepared:
		return int64(binary.LittleEndian.Uint64(r.Data)), true
	}
	return 0, false
}

// prepareBytes is the fixed part of a prepare record; the lists follow, each aligned.
const prepareBytes = 72

// ParsePrepare takes a prepare record of ManagerTransaction apart.
func ParsePrepare(r *Record) Transaction {
	if len(r.Data) < prepareBytes {
		return Transaction{Short: true}
	}
	fixed, c := r.Data[:prepareBytes], Fields{B: r.Data[prepareBytes:]}
	le := binary.LittleEndian
	aligned := func(n, size int) List {
		l := c.items(n, size)
		c.Take(min(-l.N*size&(maxAlign-1), len(c.B)))
		return l
	}
	part := func(countAt, size int) List { return aligned(int(int32(le.Uint32(fixed[countAt:]))), size) }
	t := Transaction{Time: int64(le.Uint64(fixed[16:])), PreparedXID: le.Uint32(fixed[8:]), Database: le.Uint32(fixed[12:]),
		OriginPosition: Position(le.Uint64(fixed[56:])), OriginTime: int64(le.Uint64(fixed[64:]))}
	if fixed[52] != 0 {
		t.Info |= InfoInitFile
	}
	t.GID, _, _ = bytes.Cut(aligned(int(le.Uint16(fixed[54:])), 1).Bytes, []byte{0})
	t.Subxacts = part(28, 4)
	t.Relations, t.AbortRelations = part(32, relationBytes), part(36, relationBytes)
	t.Stats, t.AbortStats = part(40, statBytes), part(44, statBytes)
	t.Invalidations = part(48, InvalidationBytes)
	t.Short = c.Short
	return t
}

// FirstNormalXID is the lowest transaction id that a transaction can have; those below are
// special, and older than all.
const FirstNormalXID = 3

// XIDPrecedes compares transaction ids, which wrap round.
func XIDPrecedes(a, b uint32) bool {
	if a < FirstNormalXID || b < FirstNormalXID {
		return a < b
	}
	return int32(a-b) < 0
}
