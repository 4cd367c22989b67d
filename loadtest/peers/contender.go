package main

import (
	"context"
	"path/filepath"
)

// api is the way a caller learns that its append is durable.
type api string

const (
	async    api = "async"    // one submitter, completion callbacks in order
	blocking api = "blocking" // one goroutine for each append in flight
)

// appendLog is a log under load.
type appendLog interface {
	// Submit queues one payload, which must not change until done ran. done runs
	// once, after the payload is durable, in the order of the Submits. One
	// goroutine at a time calls Submit.
	Submit(payload []byte, done func(error)) error
	// Appender returns an append for the use of one goroutine, which returns when
	// the payload is durable. Appenders run concurrently.
	Appender() func(payload []byte) error
	// Close returns after everything submitted is durable and no goroutine is left.
	Close() error
}

// batchAppendLog is a log with an asynchronous API for batches: many appends in one
// call, and one completion for all that became durable together.
type batchAppendLog interface {
	appendLog
	// Completions is called once, before Enqueue. completed is told, in order, that n
	// more of the enqueued appends are durable, or that the others failed.
	Completions(completed func(n int, err error))
	// Enqueue queues one append for each payload. One goroutine at a time calls it.
	Enqueue(payloads [][]byte) error
}

// peer is a log that competes.
type peer struct {
	name string
	apis []api
	// open creates a log in dir, which exists and is empty.
	open func(dir string) (appendLog, error)
	// read opens what open left in dir and visits the payloads in log order. The
	// payload is valid during the visit.
	read func(dir string, visit func(payload []byte)) error
}

// load keeps a cell's number of appends in flight until the meter says stop, then
// lets them finish.
type load interface {
	run(m *meter) error
	Close() error
}

// contender is what takes one turn in every round of a cell.
type contender struct {
	peer string
	api  api
	// limit marks the device's limit in this cell, which the others are divided by.
	limit bool
	// open makes the load ready; dir exists, is empty and is removed after the turn.
	open func(dir string, c cell) (load, error)
}

// contenders lists who takes part in a cell.
func contenders(c cell, dev *device, peers []peer) []contender {
	list := dev.contenders(c)
	for _, p := range peers {
		for _, a := range p.apis {
			list = append(list, contender{peer: p.name, api: a, open: func(dir string, c cell) (load, error) {
				log, err := p.open(filepath.Clean(dir))
				if err != nil {
					return nil, err
				}
				if a == async {
					return &asyncLoad{log: log, cell: c}, nil
				}
				return &blockingLoad{log: log, cell: c}, nil
			}})
		}
	}
	return list
}

// allPeers is the field: the hot log first, then the others.
func allPeers(ctx context.Context, hotSegmentBytes int64) []peer {
	return []peer{hotlogPeer(ctx, hotSegmentBytes), etcdPeer(), raftWALPeer(), tidwallPeer(), pebblePeer(), pebbleDriverPeer()}
}
