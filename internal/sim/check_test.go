package sim

import (
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// committed is an oracle that has seen what is given, from LSN 1 on.
func committed(t *testing.T, entries ...logcore.Entry) *oracle {
	t.Helper()
	o := newOracle()
	for i, e := range entries {
		e.LSN, e.Time = logcore.LSN(i+1), logcore.HLC(i+1)
		if err := o.see(1, e, uint32(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func command(c catalog.Command) logcore.Entry {
	return logcore.Entry{Kind: logcore.KindCatalog, Payload: c.Encode()}
}

func record(epoch logcore.Epoch, sequence uint64, tx byte) logcore.Entry {
	return logcore.Entry{Kind: logcore.KindData, Tx: logcore.TxID{tx}, Payload: catalog.Record{Log: 1, Epoch: epoch, Sequence: sequence}.Append(nil)}
}

var (
	create   = command(catalog.Command{Op: catalog.OpCreate, Log: 1, Name: "a"})
	open1    = command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: 1, Writer: "w1"})
	open2    = command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: 2, Writer: "w2"})
	txA, txB = logcore.TxID{1}, logcore.TxID{2}
)

// Each violation that the oracle is there for is one.
func TestOracle(t *testing.T) {
	at := func(lsn logcore.LSN, time logcore.HLC, e logcore.Entry) logcore.Entry {
		e.LSN, e.Time = lsn, time
		return e
	}
	for name, c := range map[string]struct {
		e    logcore.Entry
		sum  uint32
		want string
	}{
		"the next":              {at(5, 5, record(1, 2, 2)), 5, ""},
		"the same again":        {at(3, 3, record(1, 1, 1)), 3, ""},
		"another in its place":  {at(3, 3, record(1, 1, 1)), 9, "replicas differ"},
		"a gap":                 {at(6, 6, record(1, 2, 2)), 6, "gap"},
		"an earlier time":       {at(5, 2, record(1, 2, 2)), 5, "times do not rise"},
		"an older epoch":        {at(5, 5, record(0, 2, 2)), 5, "none may be 0"},
		"an epoch never opened": {at(5, 5, record(2, 1, 2)), 5, "fenced"},
		"a sequence left out":   {at(5, 5, record(1, 3, 2)), 5, "sequence 3 after 1"},
		"an entry twice":        {at(5, 5, record(1, 2, 1)), 5, "written twice"},
		"an epoch left out":     {at(5, 5, command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: 3, Writer: "w"})), 5, "out of order"},
		"one name, two epochs":  {at(5, 5, command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: 2, Writer: "w1"})), 5, "was granted epoch 2, and 1 before"},
		"a log created twice":   {at(5, 5, create), 5, "created twice"},
	} {
		o := committed(t, create, open1, record(1, 1, 1), logcore.Entry{Kind: logcore.KindRaft})
		if err := o.see(2, c.e, c.sum); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Histories that are linearizable, and some that are not.
func TestHistory(t *testing.T) {
	o := committed(t, create, open1, record(1, 1, 1), record(1, 2, 2), open2)
	op := func(kind opKind, call, ret int64, change func(*operation)) *operation {
		op := &operation{kind: kind, log: "a", call: call, ret: ret, underWay: 1, epoch: 1}
		change(op)
		return op
	}
	open := func(call, ret int64, name string, epoch logcore.Epoch) *operation {
		return op(opOpen, call, ret, func(o *operation) { o.writer, o.epoch = name, epoch })
	}
	write := func(call, ret int64, tx logcore.TxID, lsn logcore.LSN) *operation {
		return op(opAppend, call, ret, func(o *operation) { o.tx, o.lsn, o.time = tx, lsn, logcore.HLC(lsn) })
	}
	read := func(call, ret int64, epoch logcore.Epoch, last logcore.LSN, count uint64) *operation {
		return op(opRead, call, ret, func(o *operation) { o.epoch, o.lsn, o.count = epoch, last, count })
	}
	refused := func(o *operation) *operation { o.underWay = 0; return o }
	opens := []*operation{open(1, 2, "w1", 1), open(50, 52, "w2", 2)}
	for name, c := range map[string]struct {
		ops  []*operation
		want string
	}{
		"in order":                            {[]*operation{write(3, 4, txA, 3), write(5, 6, txB, 4), read(7, 8, 1, 4, 2)}, ""},
		"side by side":                        {[]*operation{write(3, 9, txA, 3), write(4, 8, txB, 4), read(5, 6, 1, 3, 1)}, ""},
		"not answered, and happened later":    {[]*operation{write(3, 0, txA, 3), read(10, 11, 1, 0, 0), write(12, 14, txB, 4)}, ""},
		"not answered, and never happened":    {[]*operation{write(3, 4, txA, 3), write(5, 6, txB, 4), write(7, 0, logcore.TxID{9}, 0)}, ""},
		"a stale read":                        {[]*operation{write(3, 4, txA, 3), write(5, 6, txB, 4), read(7, 8, 1, 3, 1)}, "no legal order"},
		"a read of the future":                {[]*operation{read(3, 4, 1, 4, 2), write(5, 6, txA, 3), write(7, 8, txB, 4)}, "no legal order"},
		"reads that go back":                  {[]*operation{write(3, 20, txA, 3), write(3, 20, txB, 4), read(5, 6, 1, 4, 2), read(7, 8, 1, 3, 1)}, "no legal order"},
		"appends against their order":         {[]*operation{write(3, 4, txB, 4), write(5, 6, txA, 3)}, "no legal order"},
		"an old epoch's append after the new": {[]*operation{write(3, 4, txA, 3), write(60, 61, txB, 4)}, "no legal order"},
		"acknowledged and not there":          {[]*operation{write(3, 4, logcore.TxID{9}, 3)}, "acknowledged and lost"},
		"acknowledged in another place":       {[]*operation{write(3, 4, txA, 4)}, "acknowledged and lost"},
		"acknowledged nowhere":                {[]*operation{write(3, 4, logcore.TxID{9}, 0)}, "acknowledged and lost"},
		"an epoch that was not granted":       {[]*operation{open(3, 4, "w3", 3)}, "acknowledged and lost"},
		"refused and written":                 {[]*operation{refused(write(3, 0, txA, 0))}, "refused and written"},
		"refused and not written":             {[]*operation{refused(write(3, 0, logcore.TxID{9}, 0)), write(3, 4, txA, 3), write(5, 6, txB, 4)}, ""},
	} {
		h := history{ops: append(append([]*operation(nil), opens...), c.ops...)}
		if err := h.linearizable(o); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
