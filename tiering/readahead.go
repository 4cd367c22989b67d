package tiering

import (
	"context"
	"sync"

	"github.com/logcore/logcore"
)

// aheadMax bounds how many objects are read at once, however small they are.
const aheadMax = 16

// ahead reads the objects that will be asked for next, several at once, within a budget of
// memory. It belongs to one goroutine.
type ahead struct {
	r      *Reader
	ctx    context.Context
	cancel context.CancelFunc
	bytes  int64 // the budget; 0 reads nothing ahead
	used   int64
	reads  map[objectName]*aheadRead
	group  sync.WaitGroup
}

// aheadRead is an object that is being read, or was.
type aheadRead struct {
	done chan struct{} // closed once the rest is set
	span Span
	o    *object
	err  error
	cost int64
}

func newAhead(ctx context.Context, r *Reader) *ahead {
	a := &ahead{r: r, bytes: r.aheadBytes, reads: map[objectName]*aheadRead{}}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// close stops what is under way and waits for it.
func (a *ahead) close() {
	a.cancel()
	a.group.Wait()
}

// readMemory is what reading an object takes at its peak: its fragments, the object made of
// them, and its frames.
func (o *object) readMemory() int64 { return 2*o.Length + o.rawBytes }

// fill begins to read path[i] and what follows it up to an LSN, as far as the budget goes.
func (a *ahead) fill(path []*object, i int, to logcore.LSN) {
	if a.bytes == 0 {
		return
	}
	for ; i < len(path) && path[i].First <= to && len(a.reads) < aheadMax; i++ {
		o := path[i]
		if a.reads[o.name()] != nil {
			continue
		}
		cost := o.readMemory()
		if a.used+cost > a.bytes && len(a.reads) > 0 {
			return
		}
		a.used += cost
		read := &aheadRead{done: make(chan struct{}), cost: cost}
		a.reads[o.name()] = read
		a.group.Go(func() {
			defer close(read.done)
			read.span, read.o, read.err = a.r.readAgain(a.ctx, o)
		})
	}
}

// take returns an object, read ahead or now. It keeps its memory until drop.
func (a *ahead) take(o *object) (Span, *object, error) {
	read := a.reads[o.name()]
	if read == nil {
		return a.r.readAgain(a.ctx, o)
	}
	select {
	case <-read.done:
		return read.span, read.o, read.err
	case <-a.ctx.Done():
		return Span{}, nil, a.ctx.Err()
	}
}

// drop gives back the memory of an object that was taken, and of those that a newer
// manifest made superfluous: all that end before an LSN.
func (a *ahead) drop(before logcore.LSN) {
	for name, read := range a.reads {
		if name.last >= before {
			continue
		}
		select {
		case <-read.done:
			a.used -= read.cost
			delete(a.reads, name)
		default: // still under way: its memory is in use
		}
	}
}
