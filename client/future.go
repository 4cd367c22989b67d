package client

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/logcore/logcore"
)

// Appended is the place a transaction got.
type Appended struct {
	LSN  logcore.LSN // of the entry that made it visible
	Time logcore.HLC
}

// Future is an append under way.
type Future struct {
	resolved atomic.Bool // set after appended and err, which then never change
	appended Appended
	err      error

	mu   sync.Mutex
	done chan struct{} // nil until somebody wants to wait; guarded by mu
}

func failedFuture(err error) *Future {
	f := &Future{}
	f.resolve(Appended{}, err)
	return f
}

func (f *Future) resolve(a Appended, err error) {
	f.appended, f.err = a, err
	f.announce()
}

// announce makes the outcome known, which was written before.
func (f *Future) announce() {
	f.mu.Lock()
	f.resolved.Store(true)
	if f.done != nil {
		close(f.done)
	}
	f.mu.Unlock()
}

// Done returns a channel that is closed when the outcome is known; Wait then returns at
// once.
func (f *Future) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = make(chan struct{})
		if f.resolved.Load() {
			close(f.done)
		}
	}
	return f.done
}

// Poll returns the outcome if it is known, and whether it is, without waiting.
func (f *Future) Poll() (a Appended, known bool, err error) {
	if !f.resolved.Load() {
		return Appended{}, false, nil
	}
	return f.appended, true, f.err
}

// Wait returns the outcome: nil means that the transaction is durable. When ctx ends
// first it returns ctx's error and the append goes on.
func (f *Future) Wait(ctx context.Context) (Appended, error) {
	if f.resolved.Load() {
		return f.appended, f.err
	}
	select {
	case <-f.Done():
		return f.appended, f.err
	case <-ctx.Done():
		return Appended{}, ctx.Err()
	}
}
