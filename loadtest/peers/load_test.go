package main

import (
	"errors"
	"runtime"
	"sync"
	"testing"
)

// fullHouse is a log that completes nothing until the promised number of appends is
// in flight; then it lingers, for one more to show itself, and completes all.
type fullHouse struct {
	want int
	stop func() // called at the 20th full house; from then on it completes at once

	mu      sync.Mutex
	pending []func(error)
	rounds  int
	over    bool
	serial  sync.Mutex // completions are in order
}

func (f *fullHouse) Submit(_ []byte, done func(error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, done)
	f.over = f.over || len(f.pending) > f.want
	if len(f.pending) == f.want || f.rounds >= 20 {
		go f.complete()
	}
	return nil
}

func (f *fullHouse) complete() {
	f.serial.Lock()
	defer f.serial.Unlock()
	for range 200 {
		runtime.Gosched()
	}
	f.mu.Lock()
	ready := f.pending
	f.pending = nil
	if f.rounds++; f.rounds == 20 {
		f.stop()
	}
	f.mu.Unlock()
	for _, d := range ready {
		d(nil)
	}
}

func (f *fullHouse) Appender() func([]byte) error { return waitingAppender(f.Submit) }
func (f *fullHouse) Close() error                 { return nil }

// The loads must reach the promised number in flight, or this hangs, and not exceed it.
func TestLoadsKeepPromisedInFlight(t *testing.T) {
	for _, n := range inflights {
		c := cell{128, n}
		for name, mk := range map[string]func(appendLog) load{
			"async":    func(l appendLog) load { return &asyncLoad{log: l, cell: c} },
			"blocking": func(l appendLog) load { return &blockingLoad{log: l, cell: c} },
		} {
			m := newMeter(c, counter{})
			m.recording.Store(true)
			log := &fullHouse{want: n, stop: func() { m.stop.Store(true) }}
			if err := mk(log).run(m); err != nil {
				t.Fatal(err)
			}
			if log.over {
				t.Errorf("%s: more than %d in flight", name, n)
			}
			if ops := m.ops(); ops < uint64(20*n) || ops > uint64(21*n) {
				t.Errorf("%s: counted %d appends of %d to %d", name, ops, 20*n, 21*n)
			}
			if got, want := m.hist.TotalCount(), int64(m.ops())/int64(m.stride); got < want-int64(n) || got > want+int64(n) {
				t.Errorf("%s with %d in flight: %d latency samples, want about %d", name, n, got, want)
			}
		}
	}
}

// A log that fails ends the load with its error, through either way.
func TestLoadsReportFailure(t *testing.T) {
	for name, mk := range map[string]func(appendLog) load{
		"async":    func(l appendLog) load { return &asyncLoad{log: l, cell: cell{128, 16}} },
		"blocking": func(l appendLog) load { return &blockingLoad{log: l, cell: cell{128, 16}} },
	} {
		l := mk(newDriver(&countingFile{failAt: 5}))
		if err := l.run(newMeter(cell{128, 16}, counter{})); !errors.Is(err, errFakeSync) {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
