package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/logcore/logcore"
)

// opKind says what a client asked for.
type opKind uint8

const (
	opOpen opKind = iota
	opAppend
	opRead
)

// operation is one call of a client as it saw it, from its first attempt to its answer.
type operation struct {
	kind   opKind
	client int
	log    string
	call   int64
	ret    int64 // 0 while there is no answer
	// underWay counts the attempts that were not refused in a way that says that
	// nothing was written.
	underWay int

	writer string        // opOpen: the name that only this attempt has
	epoch  logcore.Epoch // opAppend: asked under; opOpen and opRead: answered
	tx     logcore.TxID  // opAppend
	lsn    logcore.LSN   // opAppend: answered; opRead: of the log's last entry, answered
	count  uint64        // opRead: entries, answered
	time   logcore.HLC   // opAppend: answered
	sent   time.Duration // of the first attempt, for messages
}

// history is every operation of a run.
type history struct{ ops []*operation }

// logState is the specification of one log: a register of who may write, and how many
// entries there are. What the entries are and in which order is in the oracle, which every replica
// was held against; an append says which place of it it takes.
type logState struct {
	epoch   logcore.Epoch
	entries int
	last    logcore.LSN
}

// call is an operation as the specification sees it: what it asked and was answered, made
// whole from the oracle when the client was not answered.
type call struct {
	kind  opKind
	epoch logcore.Epoch
	place int
	lsn   logcore.LSN
}

func (s logState) step(c call) (bool, logState) {
	switch c.kind {
	case opOpen:
		return c.epoch == s.epoch+1, logState{epoch: c.epoch, entries: s.entries, last: s.last}
	case opAppend:
		return c.epoch == s.epoch && c.place == s.entries+1, logState{epoch: s.epoch, entries: c.place, last: c.lsn}
	default:
		return c.epoch == s.epoch && c.place == s.entries && c.lsn == s.last, s
	}
}

var logModel = porcupine.Model{
	Init: func() any { return logState{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(logState).step(input.(call))
		return ok, next
	},
	Equal: func(a, b any) bool { return a.(logState) == b.(logState) },
	Hash: func(state any) uint64 {
		s := state.(logState)
		return uint64(s.epoch)<<40 ^ uint64(s.entries)<<20 ^ uint64(s.last)
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// checkTimeout bounds the search for an order of one history. Running into it counts as
// a failure: a history that could not be checked shows nothing. It is the only thing here that goes by the wall's clock, and takes
// milliseconds: so long it is for a machine that has other things to do.
const checkTimeout = 3 * time.Minute

// linearizable checks every log's history against the specification. An operation
// without an answer may have happened at any time after its call; it did exactly if the oracle has it.
func (h *history) linearizable(o *oracle) error {
	byLog := map[string][]porcupine.Operation{}
	var names []string
	for _, op := range h.ops {
		c, happened, err := op.resolve(o)
		if err != nil {
			return err
		}
		if !happened {
			continue
		}
		if byLog[op.log] == nil {
			names = append(names, op.log)
		}
		ret := op.ret
		if ret == 0 {
			ret = math.MaxInt64
		}
		byLog[op.log] = append(byLog[op.log], porcupine.Operation{ClientId: op.client, Input: c, Call: op.call, Return: ret})
	}
	for _, name := range names {
		switch porcupine.CheckOperationsTimeout(logModel, byLog[name], checkTimeout) {
		case porcupine.Illegal:
			return fmt.Errorf("not linearizable: the history of log %q, %d operations, has no legal order", name, len(byLog[name]))
		case porcupine.Unknown:
			return fmt.Errorf("linearizability unknown: the history of log %q, %d operations, was not checked within %v", name, len(byLog[name]), checkTimeout)
		}
	}
	return nil
}

// resolve makes the operation whole, and checks that what was answered is there.
func (op *operation) resolve(o *oracle) (c call, happened bool, err error) {
	c = call{kind: op.kind, epoch: op.epoch, place: int(op.count), lsn: op.lsn}
	l := o.byName[op.log]
	switch {
	case op.kind == opRead:
		return c, op.ret != 0, nil
	case op.kind == opOpen:
		g, there := o.opened[op.writer]
		if op.ret != 0 && (!there || g.epoch != op.epoch) {
			return c, false, fmt.Errorf("acknowledged and lost: epoch %d of log %q, granted to %q, is not in the log", op.epoch, op.log, op.writer)
		}
		c.epoch = g.epoch
		return c, there, op.notRefused(there)
	}
	at := o.byTx[op.tx]
	lsn := at.lsn
	if op.ret != 0 && (lsn == 0 || lsn != op.lsn || at.time != op.time) {
		return c, false, fmt.Errorf("acknowledged and lost: the entry of log %q, epoch %d, acknowledged at LSN %d is at %d", op.log, op.epoch, op.lsn, lsn)
	}
	if lsn != 0 {
		c.place, c.lsn = l.place[op.tx], lsn
	}
	return c, lsn != 0, op.notRefused(lsn != 0)
}

func (op *operation) notRefused(there bool) error {
	if op.underWay == 0 && there {
		return fmt.Errorf("refused and written: %s %q of log %q, epoch %d", [...]string{"opening", "append"}[op.kind], op.writer, op.log, op.epoch)
	}
	return nil
}
