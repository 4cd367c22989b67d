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
	size := uint64(a.cell.inflight)
	w := &window{begun: make([]time.Time, size), wake: make(chan struct{}, 1)}
	submits, completions := m.lane(), m.lane()
	completed := func(n int, err error) { w.complete(completions, n, err) }
	submit := a.submitter(w, submits, completed)
	var submitted uint64
	var err error
	for err == nil && !m.stop.Load() {
		room := w.await(submitted, size-1)
		if w.failed != nil {
			break
		}
		var n uint64
		n, err = submit(submitted, room)
		submitted += n
	}
	w.await(submitted, 0)
	completions.flush()
	return errors.Join(err, w.failed)
}

// submitter returns what submits appends for which there is room: all in one call
// where the log offers that, else one.
func (a *asyncLoad) submitter(w *window, submits *lane, completed func(int, error)) func(submitted, room uint64) (uint64, error) {
	payload, size := payloadOf(a.cell.payload, 1), uint64(len(w.begun))
	if log, ok := a.log.(batchAppendLog); ok {
		log.Completions(completed)
		payloads := make([][]byte, size)
		for i := range payloads {
			payloads[i] = payload
		}
		return func(submitted, room uint64) (uint64, error) {
			for n := range room {
				w.begun[(submitted+n)%size] = submits.begun()
			}
			return room, log.Enqueue(payloads[:room])
		}
	}
	done := func(err error) { completed(1, err) }
	return func(submitted, _ uint64) (uint64, error) {
		w.begun[submitted%size] = submits.begun()
		if err := a.log.Submit(payload, done); err != nil {
			return 0, err
		}
		return 1, nil
	}
}

// complete takes note of n appends that are durable, or of a failure.
func (w *window) complete(lane *lane, n int, err error) {
	from, size := w.completed.Load(), uint64(len(w.begun))
	if err != nil {
		w.failed = err
		n = int(size) // there will be no more
	} else {
		unsampled := 0
		for i := range uint64(n) {
			if t := w.begun[(from+i)%size]; t.IsZero() {
				unsampled++
			} else {
				lane.ended(t, 1)
			}
		}
		lane.ended(time.Time{}, unsampled)
	}
	w.completed.Store(from + uint64(n))
	if w.waiting.Load() && w.waiting.CompareAndSwap(true, false) {
		w.wake <- struct{}{}
	}
}

// await returns when at most most of the submitted appends are in flight, and how
// many there is room for.
func (w *window) await(submitted, most uint64) (room uint64) {
	enough := func() bool {
		flying := int64(submitted - w.completed.Load()) // below 0 after a failure
		room = uint64(int64(len(w.begun)) - max(flying, 0))
		return flying <= int64(most)
	}
	for !enough() {
		w.waiting.Store(true)
		if enough() && w.waiting.CompareAndSwap(true, false) {
			return room
		}
		<-w.wake // whoever cleared waiting sends exactly once
	}
	return room
}

func (a *asyncLoad) Close() error { return a.log.Close() }
