package cluster

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

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

func (c *Cluster) applyTransaction(r *wal.Record, f *fields) error {
	switch op := r.Op() & wal.TransactionOpMask; op {
	case wal.TransactionCommit, wal.TransactionCommitPrepared:
		t := wal.ParseTransaction(r)
		f.short = t.Short
		return c.end(&t, r, committed, op == wal.TransactionCommitPrepared)
	case wal.TransactionAbort, wal.TransactionAbortPrepared:
		t := wal.ParseTransaction(r)
		f.short = t.Short
		return c.end(&t, r, aborted, op == wal.TransactionAbortPrepared)
	case wal.TransactionPrepare:
		t := wal.ParsePrepare(r)
		f.short = t.Short
		for i := range t.Subxacts.N {
			c.advanceXID(t.Subxacts.Number(i))
		}
		return c.prepare(t.PreparedXID, r.Data)
	}
	return nil
}

// end makes a transaction committed or aborted, with all that goes with it.
func (c *Cluster) end(t *wal.Transaction, r *wal.Record, status byte, prepared bool) error {
	xid := r.XID
	if prepared {
		xid = t.PreparedXID
	}
	all := append(make([]uint32, 0, 1+t.Subxacts.N), xid)
	for i := range t.Subxacts.N {
		all = append(all, t.Subxacts.Number(i))
	}
	for _, x := range all {
		c.advanceXID(x)
		if err := c.setStatus(x, status); err != nil {
			return err
		}
	}
	if status == committed && c.control.commitTimestamps() {
		if err := c.setCommitTime(all, t, r.Origin); err != nil {
			return err
		}
	}
	for i := range t.Relations.N {
		if err := c.drop(t.Relations.Relation(i)); err != nil {
			return err
		}
	}
	if prepared {
		return c.remove(twoPhasePath(xid))
	}
	return nil
}

// setStatus sets a transaction's two bits.
func (c *Cluster) setStatus(xid uint32, status byte) error {
	return c.update(clog, xid/clog.perPage, func(p page.Page) {
		at, shift := xid%clog.perPage/4, xid%4*2
		p[at] = p[at]&^(3<<shift) | status<<shift
	})
}

func (c *Cluster) setCommitTime(xids []uint32, t *wal.Transaction, origin uint16) error {
	at := t.Time
	if t.Info&wal.InfoHasOrigin != 0 {
		at = t.OriginTime
	}
	for _, x := range xids {
		err := c.update(commitTs, x/commitTs.perPage, func(p page.Page) {
			b := p[x%commitTs.perPage*commitTs.entryBytes:]
			binary.LittleEndian.PutUint64(b, uint64(at))
			binary.LittleEndian.PutUint16(b[8:], origin)
		})
		if err != nil {
			return err
		}
	}
	if last := xids[len(xids)-1]; wal.XIDPrecedes(c.NewestCommitTs, last) {
		c.NewestCommitTs = last
	}
	return nil
}

func twoPhasePath(xid uint32) string { return fmt.Sprintf("pg_twophase/%08X", xid) }

// prepare keeps the state of a prepared transaction as the server does at a checkpoint.
func (c *Cluster) prepare(xid uint32, state []byte) error {
	b := append(append(make([]byte, 0, len(state)+4), state...), 0, 0, 0, 0)
	putChecksum(b[len(state):], state)
	path := filepath.Join(c.dir, twoPhasePath(xid))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return writeFile(path, b)
}

// applyStandby takes from a list of running transactions what is the next id.
func (c *Cluster) applyStandby(r *wal.Record, f *fields) error {
	const running = 0x10
	if r.Op() == running {
		f.take(12)
		if next := f.u32(); next > wal.FirstNormalXID {
			c.advanceXID(next - 1)
		}
	}
	return nil
}
