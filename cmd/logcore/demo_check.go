package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/sqlite"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/sampledb"
)

// read opens the database read-only, at an LSN or (0) at the log's end, and proves that its
// content is what its ledger says.
func (d *demo) read(ctx context.Context, lsn logcore.LSN) (sampledb.State, []sampledb.Ack, error) {
	c, err := client.Dial(ctx, client.Options{Addr: d.addr, Logger: quiet(d.app)})
	if err != nil {
		return sampledb.State{}, nil, err
	}
	defer c.Close()
	if lsn == 0 {
		if lsn, err = logEnd(ctx, c, demoLog); err != nil {
			return sampledb.State{}, nil, err
		}
	}
	var state sampledb.State
	var ledger []sampledb.Ack
	opts := sqlite.Options{Log: demoLog, Source: sqlite.NewSource(c, demoLog, "logcore demo"), LSN: lsn, ReadOnly: true, ReadTimeout: 30 * time.Second, Logger: quiet(d.app)}
	err = d.app.withDatabase(ctx, opts, func(db *sqlite.Database, conn *sqlite3.Conn) error {
		if state, err = sampledb.Verify(conn); err != nil {
			return db.Explain(err)
		}
		ledger, err = sampledb.Ledger(conn)
		return db.Explain(err)
	})
	return state, ledger, err
}

// compare reads everything and holds it against what was acknowledged, transaction by
// transaction. restored is the LSN that a restore reached, 0 when the hot tier was kept.
func (d *demo) compare(ctx context.Context, restored logcore.LSN) (demoCrash, error) {
	state, ledger, err := d.read(ctx, 0)
	if err != nil {
		return demoCrash{}, err
	}
	found, err := compareLedger(d.acks, ledger, restored, d.crashed)
	found.Digest = state.Digest.String()
	if err != nil {
		return found, exit.With(exit.Integrity, err)
	}
	// The one that was under way is in the database and nobody was told: it counts from now on.
	if len(ledger) > len(d.acks) {
		d.acks = append(d.acks, ledger[len(d.acks)])
	}
	return found, nil
}

// compareLedger holds the ledger of the database against what was acknowledged; both
// are without gaps, from transaction 1 on. A transaction at or below restored, when it
// is not 0, must be there, one above it can't be. Only the one that was under way may be
// more than what was acknowledged.
func compareLedger(acks, ledger []sampledb.Ack, restored logcore.LSN, crashed time.Time) (demoCrash, error) {
	found := demoCrash{Acknowledged: int64(len(acks)), Recovered: int64(len(ledger)), Missing: []int64{}}
	for i, l := range ledger[:min(len(ledger), len(acks))] {
		a := acks[i]
		if l.N != a.N || l.Kind != a.Kind || l.Changes != a.Changes || l.Digest != a.Digest {
			return found, fmt.Errorf("transaction %d differs: acknowledged %+v, found %+v", a.N, a, l)
		}
		if restored != 0 && a.LSN > restored {
			return found, fmt.Errorf("transaction %d of LSN %d is there, but the restore says it reached LSN %d", a.N, a.LSN, restored)
		}
		found.Compared++
	}
	if len(ledger) > len(acks)+1 {
		return found, fmt.Errorf("%d transactions are there, %d were acknowledged: only the one under way may be more", len(ledger), len(acks))
	}
	for _, a := range acks[found.Compared:] {
		if restored != 0 && a.LSN != 0 && a.LSN <= restored {
			return found, fmt.Errorf("transaction %d of LSN %d is missing, but the restore says it reached LSN %d", a.N, a.LSN, restored)
		}
		if len(found.Missing) == 0 {
			found.MissingMs = milliseconds(crashed.Sub(a.Began.Add(a.Total)))
		}
		found.Missing = append(found.Missing, a.N)
	}
	return found, nil
}

// readEarlier reads the database as it was in the middle of the transactions.
func (d *demo) readEarlier(ctx context.Context) error {
	a := d.acks[d.result.LoadTx+d.flags.transactions/2]
	state, _, err := d.read(ctx, a.LSN)
	if err != nil {
		return err
	}
	if state.N != a.N || state.Digest != a.Digest {
		return exit.With(exit.Integrity, fmt.Errorf("as of LSN %d: transaction %d with digest %v, acknowledged was %d with %v", a.LSN, state.N, state.Digest, a.N, a.Digest))
	}
	d.result.EarlierLSN, d.result.EarlierTx = a.LSN, a.N
	d.say("as of LSN %-4d transaction %d, digest as acknowledged", a.LSN, a.N)
	return nil
}
