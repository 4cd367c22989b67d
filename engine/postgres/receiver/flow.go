package receiver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

const (
	// While an append is under way WAL gathers, until that ends or there are gatherBytes. What commits meanwhile goes with
	// one append, and is acknowledged with it, as in a server's own group commit: an append costs every part of LogCore more than what is in it.
	gatherBytes = 64 << 10
	// gatherMax is how much may gather before no more is taken from the server.
	gatherMax = 4 << 20
	// pacedBytes of WAL cost the pause that the log advises; a wait begins with pauseMin and never lasts longer than pauseMax.
	pacedBytes         = 1 << 20
	pauseMin, pauseMax = 5 * time.Millisecond, 2 * time.Second
)

// Adviser is a Log that knows how long to wait while page servers are behind.
type Adviser interface{ AdvisedPause() time.Duration }

// submitted is an append and where its WAL ends.
type submitted struct {
	pending Pending
	end     wal.Position
	at      time.Time // when the first of its WAL was there
}

// flow is what is on its way from the server to the log.
type flow struct {
	r     *Receiver
	queue chan submitted // the appends under way, in order; it has room for all
	room  chan struct{}  // an append has ended

	mu       sync.Mutex
	owed     time.Duration // of pauses; the receiving goroutine's
	batch    *batch        // guarded by mu
	inflight int           // appends whose outcome is not known; guarded by mu
	arrived  time.Time     // when the first of what gathers was there; guarded by mu
	over     bool          // nothing is submitted any more; guarded by mu
}

func (r *Receiver) newFlow(c *conn, at wal.Position) (*flow, error) {
	b, err := r.newBatch(c, at)
	return &flow{r: r, queue: make(chan submitted, r.opts.InflightMax), room: make(chan struct{}, 1), batch: b}, err
}

// pace waits for page servers that are behind, as long as the log advises for so much WAL. A commit has little of it, and hardly waits: what is
// held back is a rate of WAL that page servers don't keep up with.
func (f *flow) pace(ctx context.Context, bytes int) {
	a, ok := f.r.log.(Adviser)
	if !ok || !f.r.opts.Paced {
		return
	}
	advised := a.AdvisedPause()
	if advised == 0 {
		f.owed = 0
		return
	}
	f.owed += time.Duration(float64(advised) * float64(bytes) / pacedBytes)
	if f.owed < pauseMin {
		return
	}
	select {
	case <-time.After(min(f.owed, pauseMax)):
	case <-ctx.Done():
	}
	f.owed = 0
}

// add takes the next WAL from the server. It waits while too much has gathered, and for page servers that are behind.
func (f *flow) add(ctx context.Context, start wal.Position, content []byte) error {
	f.pace(ctx, len(content))
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.batch.ready() >= gatherMax {
		f.mu.Unlock()
		var err error
		select {
		case <-f.room:
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.mu.Lock()
		if err != nil {
			return err
		}
	}
	if start != f.batch.fed {
		return fmt.Errorf("the server sent WAL from %v, %v was due", start, f.batch.fed)
	}
	if f.arrived.IsZero() {
		f.arrived = time.Now()
	}
	if err := f.batch.add(content); err != nil {
		return err
	}
	return f.submit(ctx, false)
}

// submit appends what ends between records, when it is time for that, or in any case. The caller holds mu.
func (f *flow) submit(ctx context.Context, all bool) error {
	ready := f.batch.ready()
	if ready == 0 || f.over || f.inflight >= f.r.opts.InflightMax || !all && f.inflight > 0 && ready < gatherBytes {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // the append before this one may be missing
	}
	parts, end := f.batch.take()
	pending := f.r.log.Submit(ctx, parts, payload.AppendPosition(nil, f.r.timeline, end))
	f.inflight++
	f.queue <- submitted{pending, end, f.arrived}
	f.arrived = time.Time{}
	return nil
}

// ended is told that n appends have ended: what gathered meanwhile goes next.
func (f *flow) ended(ctx context.Context, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inflight -= n
	select {
	case f.room <- struct{}{}:
	default: // it is told already
	}
	return f.submit(ctx, false)
}

// close ends the submitting; whole says that what gathered is to be appended too: nobody will send it again.
func (f *flow) close(ctx context.Context, whole bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	for whole && err == nil && f.batch.ready() > 0 {
		if f.inflight < f.r.opts.InflightMax {
			err = f.submit(ctx, true)
			continue
		}
		f.mu.Unlock()
		select {
		case <-f.room:
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.mu.Lock()
	}
	f.over = true
	close(f.queue)
	return err
}
