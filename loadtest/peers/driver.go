package main

import (
	"errors"
	"sync"
)

// batchLog is a log that makes one batch durable per call and leaves it to its caller
// to form batches.
type batchLog interface {
	// appendSync appends the payloads in order; they are durable on return. It
	// keeps none of them.
	appendSync(payloads [][]byte) error
	Close() error
}

// queueMax bounds the driver's queue, in appends. The loads never come near it.
const queueMax = 1 << 14

var errDriver = errors.New("group commit: closed, or its queue is full")

// driver is group commit for a log without one: while a batch syncs, the next one
// gathers. Every peer that needs one gets this one, so that what is compared is the
// logs and not the drivers. It allocates nothing per append.
type driver struct {
	log      batchLog
	finished chan struct{} // closed by commit on its way out

	mu     sync.Mutex
	wake   sync.Cond // commit waits here for work
	queue  []request // guarded by mu
	err    error     // guarded by mu; the first error, after which nothing is accepted
	closed bool      // guarded by mu
}

// request is one append on its way.
type request struct {
	payload []byte
	done    func(error)
}

// newDriver drives log from a goroutine that Close waits for.
func newDriver(log batchLog) *driver {
	d := &driver{log: log, finished: make(chan struct{})}
	d.wake.L = &d.mu
	go d.commit()
	return d
}

// Submit implements appendLog.
func (d *driver) Submit(payload []byte, done func(error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if d.closed || len(d.queue) >= queueMax {
		return errDriver
	}
	d.queue = append(d.queue, request{payload, done})
	if len(d.queue) == 1 {
		d.wake.Signal()
	}
	return nil
}

// Appender implements appendLog.
func (d *driver) Appender() func([]byte) error { return waitingAppender(d.Submit) }

// waitingAppender turns a Submit into an append that waits, for one goroutine.
func waitingAppender(submit func([]byte, func(error)) error) func([]byte) error {
	result := make(chan error, 1)
	done := func(err error) { result <- err }
	return func(payload []byte) error {
		if err := submit(payload, done); err != nil {
			return err
		}
		return <-result
	}
}

// commit makes batch after batch durable and acknowledges each after its sync.
func (d *driver) commit() {
	defer close(d.finished)
	var batch []request
	var payloads [][]byte
	for {
		batch = d.next(batch)
		if len(batch) == 0 {
			return
		}
		payloads = payloads[:0]
		for _, r := range batch {
			payloads = append(payloads, r.payload)
		}
		// A log that failed once is not written to again: what it holds is unknown.
		err := d.failure()
		if err == nil {
			err = d.log.appendSync(payloads)
			d.fail(err)
		}
		for _, r := range batch {
			r.done(err)
		}
	}
}

// next waits for work and takes all of it, leaving the storage of the batch before as
// the new queue. It returns an empty batch when the driver is closed and drained.
func (d *driver) next(spent []request) []request {
	clear(spent)
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) == 0 && !d.closed {
		d.wake.Wait()
	}
	batch := d.queue
	d.queue = spent[:0]
	return batch
}

func (d *driver) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// fail keeps the first error.
func (d *driver) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// Close implements appendLog.
func (d *driver) Close() error {
	d.mu.Lock()
	d.closed = true
	d.wake.Signal()
	d.mu.Unlock()
	<-d.finished
	return d.log.Close()
}
