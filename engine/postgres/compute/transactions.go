package compute

import "github.com/logcore/logcore"

// transactions collects the parts of transactions: they count from their COMMIT on. What a writer left open that died or was
// fenced never counts.
type transactions struct {
	open  map[logcore.TxID]openTransaction
	epoch logcore.Epoch // of open: an entry of another one says that they stay open for ever
}

type openTransaction struct {
	first logcore.LSN
	parts [][]byte
}

// counted is what counts with an entry.
type counted struct {
	first    logcore.LSN // of the entries that the payloads come from, as far as they were read
	payloads [][]byte
}

// take returns what counts with the next entry.
func (x *transactions) take(e Entry) counted {
	if e.Epoch != x.epoch {
		clear(x.open)
		x.epoch = e.Epoch
	}
	tx, ok := x.open[e.Tx]
	if !ok {
		tx.first = e.LSN
	}
	switch e.Kind {
	case logcore.KindPart:
		tx.parts = append(tx.parts, e.Payload)
		if x.open == nil {
			x.open = map[logcore.TxID]openTransaction{}
		}
		x.open[e.Tx] = tx
		return counted{}
	case logcore.KindCommit:
		delete(x.open, e.Tx)
		return counted{tx.first, append(tx.parts, e.Payload)}
	case logcore.KindAbort:
		delete(x.open, e.Tx)
		return counted{}
	}
	return counted{e.LSN, [][]byte{e.Payload}}
}
