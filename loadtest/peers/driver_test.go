package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// countingFile is a batchLog that counts what was written and what was synced.
type countingFile struct {
	written, synced atomic.Int64
	syncs           atomic.Int64
	gate            chan struct{} // when not nil, each sync takes one
	failAt          int64         // the sync that fails, counted from 1; 0 = none
	keep            func(payload []byte)
}

var errFakeSync = errors.New("fake sync failed")

func (f *countingFile) appendSync(payloads [][]byte) error {
	f.written.Add(int64(len(payloads)))
	for _, p := range payloads {
		if f.keep != nil {
			f.keep(p)
		}
	}
	if f.gate != nil {
		<-f.gate
	}
	if f.syncs.Add(1) == f.failAt {
		return errFakeSync
	}
	f.synced.Store(f.written.Load())
	return nil
}

func (f *countingFile) Close() error { return nil }

// checkAcks runs appends through both ways of log and returns an error when one was
// acknowledged before file had synced it, or out of order.
func checkAcks(log appendLog, file *countingFile) error {
	const n = 500
	var mu sync.Mutex
	var early []error
	var acks sync.WaitGroup
	next := int64(0)
	for i := int64(1); i <= n; i++ {
		acks.Add(1)
		err := log.Submit([]byte{byte(i)}, func(err error) {
			defer acks.Done()
			mu.Lock()
			defer mu.Unlock()
			if next++; next != i {
				err = errors.Join(err, fmt.Errorf("append %d acknowledged as number %d", i, next))
			}
			if s := file.synced.Load(); s < i {
				err = errors.Join(err, fmt.Errorf("append %d acknowledged with %d synced", i, s))
			}
			early = append(early, err)
		})
		if err != nil {
			return err
		}
	}
	acks.Wait()
	var goroutines sync.WaitGroup
	for range 8 {
		appendOne := log.Appender()
		goroutines.Go(func() {
			for range n / 8 {
				before := file.synced.Load()
				err := appendOne([]byte{1})
				if after := file.synced.Load(); after == before {
					err = errors.Join(err, fmt.Errorf("an append returned and nothing was synced meanwhile: %d", after))
				}
				mu.Lock()
				early = append(early, err)
				mu.Unlock()
			}
		})
	}
	goroutines.Wait()
	return errors.Join(early...)
}

func TestDriverAcknowledgesAfterSync(t *testing.T) {
	file := &countingFile{}
	d := newDriver(file)
	if err := checkAcks(d, file); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// ackFirst is the planted bug: it acknowledges, then syncs.
type ackFirst struct{ *driver }

func (a ackFirst) Submit(payload []byte, done func(error)) error {
	done(nil)
	return a.driver.Submit(payload, func(error) {})
}

func (a ackFirst) Appender() func([]byte) error { return waitingAppender(a.Submit) }

func TestEarlyAcknowledgementIsCaught(t *testing.T) {
	file := &countingFile{}
	d := newDriver(file)
	if err := checkAcks(ackFirst{d}, file); err == nil {
		t.Error("a driver that acknowledges before the sync passed")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestDriverGathersWhileSyncing(t *testing.T) {
	file := &countingFile{gate: make(chan struct{})}
	d := newDriver(file)
	var acks sync.WaitGroup
	submit := func() {
		acks.Add(1)
		if err := d.Submit([]byte("x"), func(error) { acks.Done() }); err != nil {
			t.Fatal(err)
		}
	}
	submit()
	for file.written.Load() == 0 { // until the first batch is on its way
		runtime.Gosched()
	}
	for range 100 {
		submit()
	}
	file.gate <- struct{}{}
	file.gate <- struct{}{}
	acks.Wait()
	if n := file.syncs.Load(); n != 2 {
		t.Errorf("%d syncs for one append and the hundred that came meanwhile, want 2", n)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestDriverStopsAtFailedSync(t *testing.T) {
	file := &countingFile{failAt: 1, gate: make(chan struct{}, 2)}
	d := newDriver(file)
	const n = 10
	results := make(chan error, n)
	for i := range n {
		if err := d.Submit([]byte("x"), func(err error) { results <- err }); err != nil {
			t.Fatal(err)
		}
		for i == 0 && file.written.Load() == 0 { // the others come while the first is on its way
			runtime.Gosched()
		}
	}
	file.gate <- struct{}{}
	file.gate <- struct{}{}
	for range n {
		if err := <-results; !errors.Is(err, errFakeSync) {
			t.Errorf("acknowledged with %v after a failed sync", err)
		}
	}
	if err := d.Submit([]byte("x"), func(error) {}); !errors.Is(err, errFakeSync) {
		t.Errorf("submit after a failed sync: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if n := file.syncs.Load(); n != 1 {
		t.Errorf("%d syncs, want no other after the one that failed", n)
	}
}

func TestDriverAllocatesNothing(t *testing.T) {
	d := newDriver(&countingFile{})
	appendOne := d.Appender()
	payload := []byte("x")
	if n := testing.AllocsPerRun(1000, func() {
		if err := appendOne(payload); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations an append: they would be charged to the peers", n)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := appendOne(payload); !errors.Is(err, errDriver) {
		t.Errorf("append after Close: %v", err)
	}
}
