package client

import (
	"context"

	"github.com/logcore/logcore"
)

// Appended is the place a transaction got.
type Appended struct {
	LSN  logcore.LSN // of the entry that made it visible
	Time logcore.HLC
}

// Future is an append under way.
type Future struct {
	done chan struct{}
	// Written once, before done is closed.
	appended Appended
	err      error
}

func newFuture() *Future { return &Future{done: make(chan struct{})} }

func failedFuture(err error) *Future {
	f := newFuture()
	f.resolve(Appended{}, err)
	return f
}

func (f *Future) resolve(a Appended, err error) {
	f.appended, f.err = a, err
	close(f.done)
}

// Done is closed when the outcome is known; Wait then returns at once.
func (f *Future) Done() <-chan struct{} { return f.done }

// Wait returns the outcome: nil means that the transaction is durable. When ctx ends
// first it returns ctx's error and the append goes on.
func (f *Future) Wait(ctx context.Context) (Appended, error) {
	select {
	case <-f.done:
		return f.appended, f.err
	default:
	}
	select {
	case <-f.done:
		return f.appended, f.err
	case <-ctx.Done():
		return Appended{}, ctx.Err()
	}
}
