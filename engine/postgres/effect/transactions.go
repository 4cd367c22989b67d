package effect

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

const (
	committed = 1
	aborted   = 2
)

// advanceXID makes the next transaction id come behind xid.
func (c *Counters) advanceXID(xid uint32) {
	next := uint32(c.NextXID)
	if wal.XIDPrecedes(xid, next) {
		return
	}
	epoch := c.NextXID >> 32
	after := xid + 1
	if after < wal.FirstNormalXID {
		after = wal.FirstNormalXID
	}
	if after < next {
		epoch++
	}
	c.NextXID = epoch<<32 | uint64(after)
}

func (i *Interpreter) applyTransaction(r *wal.Record, f *wal.Fields) error {
	switch op := r.Op() & wal.TransactionOpMask; op {
	case wal.TransactionCommit, wal.TransactionCommitPrepared:
		t := wal.ParseTransaction(r)
		f.Short = t.Short
		return i.end(&t, r, committed, op == wal.TransactionCommitPrepared)
	case wal.TransactionAbort, wal.TransactionAbortPrepared:
		t := wal.ParseTransaction(r)
		f.Short = t.Short
		return i.end(&t, r, aborted, op == wal.TransactionAbortPrepared)
	case wal.TransactionPrepare:
		t := wal.ParsePrepare(r)
		f.Short = t.Short
		for k := range t.Subxacts.N {
			i.advanceXID(t.Subxacts.Number(k))
		}
		return i.prepare(t.PreparedXID, r.Data)
	}
	return nil
}

// end makes a transaction committed or aborted, with all that goes with it.
func (i *Interpreter) end(t *wal.Transaction, r *wal.Record, status byte, prepared bool) error {
	xid := r.XID
	if prepared {
		xid = t.PreparedXID
	}
	all := append(i.xids[:0], xid)
	for k := range t.Subxacts.N {
		all = append(all, t.Subxacts.Number(k))
	}
	i.xids = all
	for _, x := range all {
		i.advanceXID(x)
		if err := i.setStatus(x, status); err != nil {
			return err
		}
	}
	if status == committed && i.CommitTimestamps {
		if err := i.setCommitTime(all, t, r.Origin); err != nil {
			return err
		}
	}
	for k := range t.Relations.N {
		if err := i.Sink.Drop(t.Relations.Relation(k)); err != nil {
			return err
		}
	}
	if prepared {
		return i.Sink.PutPrepared(xid, nil)
	}
	return nil
}

// setStatus sets a transaction's two bits.
func (i *Interpreter) setStatus(xid uint32, status byte) error {
	at, shift := int(xid%statusPerPage/4), xid%4*2
	return i.Sink.EditSLRU(CLOG, xid/statusPerPage, page.Edit(i.buffer()).Bits(at, ^byte(3<<shift), status<<shift), false)
}

func (i *Interpreter) setCommitTime(xids []uint32, t *wal.Transaction, origin uint16) error {
	at := t.Time
	if t.Info&wal.InfoHasOrigin != 0 {
		at = t.OriginTime
	}
	var entry [commitTsBytes]byte
	binary.LittleEndian.PutUint64(entry[:], uint64(at))
	binary.LittleEndian.PutUint16(entry[8:], origin)
	for _, x := range xids {
		e := page.Edit(i.buffer()).Write(int(x%commitTsPerPage*commitTsBytes), entry[:])
		if err := i.Sink.EditSLRU(CommitTs, x/commitTsPerPage, e, false); err != nil {
			return err
		}
	}
	if last := xids[len(xids)-1]; wal.XIDPrecedes(i.NewestCommitTs, last) {
		i.NewestCommitTs = last
	}
	return nil
}

// PreparedPath returns the path of a prepared transaction's state file inside the data directory.
func PreparedPath(xid uint32) string { return fmt.Sprintf("pg_twophase/%08X", xid) }

// prepare keeps the state of a prepared transaction as the server does at a checkpoint.
func (i *Interpreter) prepare(xid uint32, state []byte) error {
	b := append(append(make([]byte, 0, len(state)+4), state...), 0, 0, 0, 0)
	putChecksum(b[len(state):], state)
	return i.Sink.PutPrepared(xid, b)
}

// applyStandby takes from a list of running transactions what is the next id.
func (i *Interpreter) applyStandby(r *wal.Record, f *wal.Fields) error {
	const running = 0x10
	if r.Op() == running {
		f.Take(12)
		if next := f.U32(); next > wal.FirstNormalXID {
			i.advanceXID(next - 1)
		}
	}
	return nil
}
