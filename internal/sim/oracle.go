package sim

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// oracle is the shard's log as it must be on every member: what the first member to
// commit an entry had in its place. Every other member is held against it, entry by entry.
type oracle struct {
	committed []placed // by LSN, from 1
	logs      map[logcore.LogID]*logTruth
	byName    map[string]*logTruth
	byTx      map[logcore.TxID]written // of every log, in its own numbering
	opened    map[string]grant         // by the writer's name, which each attempt has to itself
	seals     int
	shard     logcore.ShardID
}

// written is where an entry of a log is, and its time.
type written struct {
	lsn  logcore.LSN
	time logcore.HLC
}

// placed is an entry as it stands on disk, in short.
type placed struct {
	sum  uint32 // of its frame: covers the content, the place and, by the chain, all entries before it
	kind logcore.Kind
	time logcore.HLC
	tx   logcore.TxID
}

// logTruth is what the committed entries of one log amount to.
type logTruth struct {
	id       logcore.LogID
	name     string
	epoch    logcore.Epoch
	sequence uint64
	entries  int
	place    map[logcore.TxID]int // from 1, in the order of the log
	// Where it is: in which shard, after how many moves, what its LSNs are above the indexes there; gone: it left at left.
	shard      logcore.ShardID
	gen        uint64
	base, left logcore.LSN
	gone       bool
	last       logcore.LSN // of its newest entry
}

type grant struct {
	log   logcore.LogID
	epoch logcore.Epoch
	lsn   logcore.LSN
	// before is how many entries the log had when the epoch was granted.
	before int
}

func newOracle() *oracle {
	return &oracle{logs: map[logcore.LogID]*logTruth{}, byName: map[string]*logTruth{}, byTx: map[logcore.TxID]written{}, opened: map[string]grant{}}
}

func (o *oracle) last() logcore.LSN { return logcore.LSN(len(o.committed)) }

// see takes an entry that a member says is committed. Every LSN above those already
// seen must come in order.
func (o *oracle) see(member uint64, e logcore.Entry, sum uint32) error {
	if e.LSN <= o.last() {
		want := o.committed[e.LSN-1]
		if want.sum != sum || want.kind != e.Kind {
			return fmt.Errorf("replicas differ: LSN %d is %v with checksum %08x on member %d, and was committed as %v with %08x", e.LSN, e.Kind, sum, member, want.kind, want.sum)
		}
		return nil
	}
	if e.LSN != o.last()+1 {
		return fmt.Errorf("gap: member %d committed LSN %d, the newest known is %d", member, e.LSN, o.last())
	}
	if n := len(o.committed); n > 0 {
		prev := o.committed[n-1].time
		if e.Time < prev || e.Time == prev && e.Kind != logcore.KindRaft {
			return fmt.Errorf("times do not rise: LSN %d has %v behind %v", e.LSN, e.Time, prev)
		}
	}
	o.committed = append(o.committed, placed{sum: sum, kind: e.Kind, time: e.Time, tx: e.Tx})
	return o.fold(e)
}

// fold is a second, plain implementation of what the catalog says of writers: one
// epoch at a time, sequences without gap or repetition, no transaction twice.
func (o *oracle) fold(e logcore.Entry) error {
	switch {
	case e.Kind == logcore.KindSeal:
		o.seals++
	case e.Kind == logcore.KindCatalog:
		c, err := catalog.DecodeCommand(e.Payload)
		if err != nil {
			return err
		}
		return o.foldCommand(c, e.LSN)
	case e.Kind.OfLog():
		r, err := catalog.DecodeRecord(e.Payload)
		if err != nil {
			return err
		}
		l := o.logs[r.Log]
		switch {
		case l == nil:
			return fmt.Errorf("LSN %d: log %d was never created", e.LSN, r.Log)
		case r.Epoch != l.epoch:
			return fmt.Errorf("fenced writer's entry was committed: LSN %d of log %q has epoch %d, which is at %d", e.LSN, l.name, r.Epoch, l.epoch)
		case l.gone || l.shard != o.shard:
			return o.misplaced("is written to", l, e.LSN)
		case o.byTx[e.Tx].lsn != 0:
			return fmt.Errorf("entry written twice: LSN %d of log %q has the transaction of LSN %d", e.LSN, l.name, o.byTx[e.Tx].lsn)
		case e.LSN+l.base <= l.last:
			return fmt.Errorf("log %q goes back: LSN %d after %d", l.name, e.LSN+l.base, l.last)
		case r.Sequence != l.sequence+1:
			return fmt.Errorf("LSN %d of log %q: sequence %d after %d", e.LSN, l.name, r.Sequence, l.sequence)
		}
		l.sequence++
		l.entries++
		l.place[e.Tx] = l.entries
		l.last = e.LSN + l.base
		o.byTx[e.Tx] = written{l.last, e.Time}
	}
	return nil
}

func (o *oracle) foldCommand(c catalog.Command, lsn logcore.LSN) error {
	switch c.Op {
	case catalog.OpCreate:
		if o.byName[c.Name] != nil || o.logs[c.Log] != nil {
			return fmt.Errorf("LSN %d: log %q, id %d, was created twice", lsn, c.Name, c.Log)
		}
		l := &logTruth{id: c.Log, name: c.Name, shard: o.shard, place: map[logcore.TxID]int{}}
		o.logs[c.Log], o.byName[c.Name] = l, l
	case catalog.OpLeave, catalog.OpPlace:
		return o.foldMove(c, lsn)
	case catalog.OpOpenWriter:
		l := o.logs[c.Log]
		if l != nil && (l.gone || l.shard != o.shard) {
			return o.misplaced("is opened", l, lsn)
		}
		if l == nil || c.Epoch != l.epoch+1 {
			return fmt.Errorf("LSN %d: epoch %d of log %d was granted out of order", lsn, c.Epoch, c.Log)
		}
		if before, twice := o.opened[c.Writer]; twice {
			return fmt.Errorf("LSN %d: writer %q was granted epoch %d, and %d before", lsn, c.Writer, c.Epoch, before.epoch)
		}
		l.epoch, l.sequence = c.Epoch, 0
		o.opened[c.Writer] = grant{log: c.Log, epoch: c.Epoch, lsn: lsn, before: l.entries}
	}
	return nil
}

// misplaced is what happened to a log where it is not, or not yet.
func (o *oracle) misplaced(what string, l *logTruth, lsn logcore.LSN) error {
	where := fmt.Sprintf("is in shard %d", l.shard)
	if l.gone {
		where = fmt.Sprintf("has left shard %d", l.shard)
	}
	return fmt.Errorf("shard %d, LSN %d: log %q %s, which %s after %d moves", o.shard, lsn, l.name, what, where, l.gen)
}
