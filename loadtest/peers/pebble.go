package main

import (
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Pebble takes part twice: with its own commit pipeline, where every append is a
// synced batch of its own goroutine, and behind the driver that the other peers have,
// where a whole group is one synced batch. The key is the append's number.

func pebblePeer() peer {
	return peer{name: "pebble", apis: []api{blocking}, open: openPebbleOwn, read: readPebble}
}

func pebbleDriverPeer() peer {
	return peer{name: "pebble-driver", apis: []api{async, blocking}, open: openPebbleDriver, read: readPebble}
}

// quiet is a logger that keeps Pebble's chatter off the table.
type quiet struct{ pebble.Logger }

func (quiet) Infof(string, ...any) {}

// openPebble uses larger memtables than the default of 4 MiB, which under this load
// would measure flushes and write stalls rather than the log.
func openPebble(dir string) (*pebble.DB, error) {
	return pebble.Open(dir, &pebble.Options{
		Logger:                      quiet{pebble.DefaultLogger},
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
	})
}

// pebbleOwn appends through Pebble's commit pipeline, which merges the syncs of
// concurrent commits.
type pebbleOwn struct {
	db   *pebble.DB
	last atomic.Uint64
}

func openPebbleOwn(dir string) (appendLog, error) {
	db, err := openPebble(dir)
	if err != nil {
		return nil, err
	}
	return &pebbleOwn{db: db}, nil
}

// Submit is not offered: a synced commit waits.
func (p *pebbleOwn) Submit([]byte, func(error)) error {
	return errors.New("pebble: its commit pipeline has no completion callback")
}

func (p *pebbleOwn) Appender() func([]byte) error {
	var key [8]byte
	b := p.db.NewBatch()
	return func(payload []byte) error {
		binary.BigEndian.PutUint64(key[:], p.last.Add(1))
		if err := b.Set(key[:], payload, nil); err != nil {
			return err
		}
		if err := b.Commit(pebble.Sync); err != nil {
			return err
		}
		b.Reset()
		return nil
	}
}

func (p *pebbleOwn) Close() error { return p.db.Close() }

// pebbleBatches makes each group one batch.
type pebbleBatches struct {
	db   *pebble.DB
	last uint64
	b    *pebble.Batch
}

func openPebbleDriver(dir string) (appendLog, error) {
	db, err := openPebble(dir)
	if err != nil {
		return nil, err
	}
	return newDriver(&pebbleBatches{db: db, b: db.NewBatch()}), nil
}

func (p *pebbleBatches) appendSync(payloads [][]byte) error {
	var key [8]byte
	for _, payload := range payloads {
		p.last++
		binary.BigEndian.PutUint64(key[:], p.last)
		if err := p.b.Set(key[:], payload, nil); err != nil {
			return err
		}
	}
	if err := p.b.Commit(pebble.Sync); err != nil {
		return err
	}
	p.b.Reset()
	return nil
}

func (p *pebbleBatches) Close() error { return errors.Join(p.b.Close(), p.db.Close()) }

func readPebble(dir string, visit func([]byte)) error {
	db, err := openPebble(dir)
	if err != nil {
		return err
	}
	it, err := db.NewIter(nil)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	for it.First(); it.Valid(); it.Next() {
		visit(it.Value())
	}
	return errors.Join(it.Close(), db.Close())
}
