package appendload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// driver appends to its share of the logs, in turn, from one goroutine: a goroutine for
// each append would measure how fast goroutines wake up.
type driver struct {
	l    *load
	logs []*logState
	at   int // of logs: who is next

	// ring holds the appends under way, oldest first. It is as long as the driver's share
	// of what may be in flight.
	ring        []attempt
	head, count int
	figures     *figures
}

// logState is one log and its present writer.
type logState struct {
	record
	w    *client.Writer
	part [][]byte // reused: Submit wants a list
}

// attempt is one append under way.
type attempt struct {
	log     *logState
	w       *client.Writer
	number  int
	due     time.Time
	future  *client.Future
	payload []byte
}

func (d *driver) full() bool { return d.count == len(d.ring) }

// submit begins the next append, which was due at a time.
func (d *driver) submit(ctx context.Context, due time.Time) error {
	l := d.logs[d.at]
	d.at = (d.at + 1) % len(d.logs)
	if l.w.Err() != nil {
		if err := d.reopen(ctx, l); err != nil {
			return err
		}
	}
	a := &d.ring[(d.head+d.count)%len(d.ring)]
	d.count++
	a.log, a.w, a.number, a.due = l, l.w, len(l.places), due
	stamp{d.l.run, l.number, uint64(a.number)}.fill(a.payload)
	l.places = append(l.places, unknown)
	l.part[0] = a.payload
	a.future = l.w.Submit(ctx, logcore.TxID{}, l.part, nil)
	return nil
}

// reap takes what is finished, oldest first; it waits for the oldest until ctx ends.
func (d *driver) reap(ctx context.Context) error {
	a := &d.ring[d.head]
	placed, err := a.future.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // what is under way stays unknown
	}
	now := time.Now()
	for {
		d.settle(a, placed, err, now)
		a.future = nil
		d.head = (d.head + 1) % len(d.ring)
		d.count--
		if d.count == 0 {
			return nil
		}
		a = &d.ring[d.head]
		var known bool
		if placed, known, err = a.future.Poll(); !known {
			return nil
		}
	}
}

// settle records an outcome.
func (d *driver) settle(a *attempt, placed client.Appended, err error, now time.Time) {
	switch {
	case err == nil:
		a.log.places[a.number] = placed.LSN
		d.figures.acknowledged(a.due, now)
	case a.w.Err() != nil || errors.Is(err, client.ErrUnknownOutcome) || errors.Is(err, logcore.ErrFenced):
		d.figures.unknown++
		d.figures.fault(err)
	default:
		a.log.places[a.number] = refused
		d.figures.refused++
		d.figures.fault(err)
	}
}

// reopen takes the log over from a writer that ended. While nobody answers it tries
// again, within the patience.
func (d *driver) reopen(ctx context.Context, l *logState) error {
	begun := time.Now()
	for {
		old := l.w
		if old != nil {
			closeCtx, cancel := context.WithTimeout(ctx, time.Millisecond)
			_ = old.Close(closeCtx) // it failed; its error was recorded
			cancel()
		}
		w, err := d.l.client.OpenWriter(ctx, l.name, client.WriterOptions{Name: "loadtest", Create: true, Takeover: true})
		if err == nil {
			if old != nil {
				d.figures.reopened++
			} else {
				l.from = w.LastLSN() + 1
			}
			l.w = w
			return nil
		}
		d.figures.fault(err)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(begun) > d.l.opts.Patience {
			return fmt.Errorf("load: log %s: no writer within %v: %w", l.name, d.l.opts.Patience, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// closed is the closed loop: it keeps the ring full until the end.
func (d *driver) closed(ctx context.Context, end time.Time) error {
	for time.Now().Before(end) {
		for !d.full() {
			if err := d.submit(ctx, time.Now()); err != nil {
				return err
			}
		}
		if err := d.reap(ctx); err != nil {
			return err
		}
	}
	return d.drain(ctx)
}

// open is the open loop: appends are due every so often. When the ring is full they are
// sent late, and their latencies say so.
func (d *driver) open(ctx context.Context, begin, end time.Time, every time.Duration) error {
	due := begin
	for due.Before(end) {
		now := time.Now()
		switch {
		case !due.After(now) && !d.full():
			if err := d.submit(ctx, due); err != nil {
				return err
			}
			due = due.Add(every)
		case d.count > 0 && (d.full() || due.Sub(now) > reapAhead):
			wait, cancel := context.WithDeadline(ctx, d.wakeAt(due))
			err := d.reap(wait)
			cancel()
			if err != nil && ctx.Err() != nil {
				return context.Cause(ctx)
			}
		default:
			pause(ctx, due.Sub(now))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return d.drain(ctx)
}

// reapAhead is how long before the next append is due the driver still looks for
// finished ones.
const reapAhead = 20 * time.Microsecond

// wakeAt is how long a reap may wait: until the next append is due, or, when there is no
// room for it, for as long as it takes.
func (d *driver) wakeAt(due time.Time) time.Time {
	if d.full() {
		return due.Add(time.Hour)
	}
	return due
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// drain waits for what is under way, within the patience.
func (d *driver) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.l.opts.Patience, errors.New("load: appends were still under way when the patience ended"))
	defer cancel()
	for d.count > 0 {
		if err := d.reap(ctx); err != nil {
			return err
		}
	}
	return nil
}
