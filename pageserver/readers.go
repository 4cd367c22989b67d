package pageserver

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// readerPool keeps readers with their iterators from one request to the next: opening an
// iterator costs more than a seek with one that is open. A reader is kept only as long as
// nothing was written since it was opened, so it never misses anything, and none holds on
// to a memory table or a table that is gone for longer than the next flush.
//
// The zero value is ready.
type readerPool struct {
	// writes counts what was written to the store.
	writes atomic.Uint64

	mu   sync.Mutex
	free []*reader // opened at writes; guarded by mu
}

// scratchBytesMax is how much room for bodies a reader keeps.
const scratchBytesMax = 256 << 10

// newReader returns a reader of the store as it is now, or a moment ago.
func (s *Server) newReader() *reader {
	if r := s.readers.take(); r != nil {
		return r
	}
	return &reader{s: s, opened: s.readers.writes.Load()}
}

func (p *readerPool) take() *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free) - 1
	if n < 0 {
		return nil
	}
	r := p.free[n]
	p.free[n], p.free = nil, p.free[:n]
	return r
}

// put keeps a reader, or returns false when it is of no more use.
func (p *readerPool) put(r *reader) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.opened != p.writes.Load() || len(p.free) >= 2*runtime.GOMAXPROCS(0) {
		return false
	}
	r.exact, r.incarnation = false, 0
	if cap(r.bodies) > scratchBytesMax {
		r.bodies = nil
	}
	p.free = append(p.free, r)
	return true
}

// renew says that the store was written to, which comes before anybody is told, or that it
// is about to be closed: readers are opened anew.
func (p *readerPool) renew() {
	p.mu.Lock()
	p.writes.Add(1)
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, r := range free {
		r.drop()
	}
}
