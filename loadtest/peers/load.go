package main

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// payloadOf returns n bytes that do not compress, the same for the same seed.
func payloadOf(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// blockingLoad is one goroutine for each append in flight, each waiting for its own.
type blockingLoad struct {
	log  appendLog
	cell cell
}

func (b *blockingLoad) run(m *meter) error {
	payload := payloadOf(b.cell.payload, 1)
	errs := make([]error, b.cell.inflight)
	var wg sync.WaitGroup
	for i := range b.cell.inflight {
		l, appendOne := m.lane(), b.log.Appender()
		wg.Go(func() {
			defer l.flush()
			for !m.stop.Load() {
				t := l.begun()
				if errs[i] = appendOne(payload); errs[i] != nil {
					m.stop.Store(true)
					return
				}
				l.ended(t, 1)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (b *blockingLoad) Close() error { return b.log.Close() }

// asyncLoad is one submitter that tops the log up to the cell's number of appends in
// flight; the completion callbacks make room.
type asyncLoad struct {
	log  appendLog
	cell cell
}

// window is what the submitter and the callbacks of an asyncLoad share. Slot n modulo
// its length belongs to append n: the submitter's until Submit, the callback's after,
// the submitter's again once completed says so.
type window struct {
	begun     []time.Time
	completed atomic.Uint64
	waiting   atomic.Bool
	wake      chan struct{}
	failed    error // written by the callbacks before completed, read after
}

func (a *asyncLoad) run(m *meter) error {
	payload := payloadOf(a.cell.payload, 1)
	size := uint64(a.cell.inflight)
	w := &window{begun: make([]time.Time, size), wake: make(chan struct{}, 1)}
	submits, completions := m.lane(), m.lane()
	done := func(err error) {
		n := w.completed.Load()
		if err != nil {
			w.failed = err
		} else {
			completions.ended(w.begun[n%size], 1)
		}
		w.completed.Store(n + 1)
		if w.waiting.Load() && w.waiting.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
	var submitted uint64
	var err error
	for err == nil && !m.stop.Load() {
		w.await(submitted, size-1)
		if w.failed != nil {
			break
		}
		w.begun[submitted%size] = submits.begun()
		if err = a.log.Submit(payload, done); err == nil {
			submitted++
		}
	}
	w.await(submitted, 0)
	completions.flush()
	return errors.Join(err, w.failed)
}

// await returns when at most most of the submitted appends are in flight.
func (w *window) await(submitted, most uint64) {
	for submitted-w.completed.Load() > most {
		w.waiting.Store(true)
		if submitted-w.completed.Load() <= most && w.waiting.CompareAndSwap(true, false) {
			return
		}
		<-w.wake // whoever cleared waiting sends exactly once
	}
}

func (a *asyncLoad) Close() error { return a.log.Close() }
