package effect

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Counters are what a checkpoint record carries.
type Counters struct {
	Redo                     wal.Position // of the last checkpoint seen
	Timeline, PrevTimeline   wal.Timeline
	FullPageWrites           bool
	NextXID                  uint64 // epoch and number
	NextOID                  uint32
	NextMulti, NextOffset    uint32
	OldestXID, OldestXIDDB   uint32
	OldestMulti, OldestMulDB uint32
	Time                     int64 // Unix seconds
	OldestCommitTs           uint32
	NewestCommitTs           uint32
	OldestActiveXID          uint32
}

// Settings are what of the server's configuration matters to redo.
type Settings struct {
	CommitTimestamps bool // track_commit_timestamp
	HintBitsLogged   bool // data checksums or wal_log_hints
	Checksums        bool // data pages have checksums
}

// Interpreter takes the records of a log in order and gives what they change to a Sink. It is not safe for concurrent use.
type Interpreter struct {
	Counters
	Settings
	Sink Sink

	edit   []byte     // a buffer
	xids   []uint32   // another
	fields wal.Fields // of the record at hand
}

// Apply makes the changes of the next record.
func (i *Interpreter) Apply(r *wal.Record) error {
	if r.XID >= wal.FirstNormalXID {
		i.advanceXID(r.XID)
	}
	if err := i.applyBlocks(r); err != nil {
		return err
	}
	h := managers[r.Manager]
	if h == nil {
		if r.Manager >= wal.ManagerCustomMin {
			return fmt.Errorf("record %v: %w: resource manager %v belongs to an extension", r.Start, logcore.ErrUnsupportedVersion, r.Manager)
		}
		return nil
	}
	f := &i.fields
	*f = wal.Fields{B: r.Data}
	err := h(i, r, f)
	if err == nil && f.Short {
		err = fmt.Errorf("%w: the record is too short", logcore.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("record %v (%v, operation %02X): %w", r.Start, r.Manager, r.Op(), err)
	}
	return nil
}

// managers redo what is no block of the record.
var managers = [256]func(*Interpreter, *wal.Record, *wal.Fields) error{
	wal.ManagerXLog:        (*Interpreter).applyXLog,
	wal.ManagerTransaction: (*Interpreter).applyTransaction,
	wal.ManagerStorage:     (*Interpreter).applyStorage,
	wal.ManagerCLOG:        (*Interpreter).applyCLOG,
	wal.ManagerDatabase:    (*Interpreter).applyDatabase,
	wal.ManagerTablespace:  (*Interpreter).applyTablespace,
	wal.ManagerMultiXact:   (*Interpreter).applyMultiXact,
	wal.ManagerRelMap:      (*Interpreter).applyRelMap,
	wal.ManagerStandby:     (*Interpreter).applyStandby,
	wal.ManagerCommitTs:    (*Interpreter).applyCommitTs,
}

// applyBlocks redoes the record's blocks, and clears what it clears in visibility maps.
func (i *Interpreter) applyBlocks(r *wal.Record) error {
	if len(r.Blocks) == 0 {
		return nil
	}
	cleared, n := redo.VisibilityCleared(r)
	for _, v := range cleared[:n] {
		if err := i.Sink.EditMap(v.Relation, v.MapPage, v.Edit(i.buffer())); err != nil {
			return err
		}
	}
	for j := range r.Blocks {
		if b := &r.Blocks[j]; b.Fork != wal.ForkFSM { // rebuilt by the server
			if err := i.Sink.Block(r, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// buffer returns an empty edit, valid until the next call.
func (i *Interpreter) buffer() []byte {
	if i.edit == nil {
		i.edit = make([]byte, 0, 256)
	}
	return i.edit[:0]
}
