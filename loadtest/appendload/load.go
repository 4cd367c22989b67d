package appendload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/logcore/logcore/client"
)

// driversMax bounds the goroutines that append.
const driversMax = 4

// load is one run.
type load struct {
	opts    Options
	run     uint64
	client  *client.Client
	drivers []*driver
}

// Run carries a load out. The report tells what was measured also when verification found
// something wrong: look at Report.OK. An error means that the load could not be carried
// out, or not to its end.
func Run(ctx context.Context, opts Options) (Report, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return Report{}, err
	}
	if opts.Client.Logger == nil {
		opts.Client.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := client.Dial(ctx, opts.Client)
	if err != nil {
		return Report{}, err
	}
	defer c.Close()
	l := &load{opts: opts, run: rand.Uint64() | 1, client: c}
	l.share()
	if err := l.openAll(ctx); err != nil {
		return Report{}, err
	}
	total, err := l.drive(ctx)
	err = errors.Join(err, l.closeAll(ctx))
	rep := report(opts, l.run, total)
	if opts.Verify && ctx.Err() == nil {
		var verr error
		rep.Verify, verr = l.verify(ctx)
		err = errors.Join(err, verr)
	}
	return rep, err
}

// share gives each driver its part of the logs and of what may be in flight.
func (l *load) share() {
	n := min(l.opts.Logs, driversMax, l.opts.Inflight)
	for i := range n {
		slots := l.opts.Inflight / n
		if i < l.opts.Inflight%n {
			slots++
		}
		d := &driver{l: l, ring: make([]attempt, slots)}
		for j := range d.ring {
			d.ring[j].payload = make([]byte, l.opts.PayloadBytes)
		}
		l.drivers = append(l.drivers, d)
	}
	for i := range l.opts.Logs {
		d := l.drivers[i%n]
		d.logs = append(d.logs, &logState{part: make([][]byte, 1), record: record{name: fmt.Sprintf("%s-%d", l.opts.Prefix, i), number: uint32(i)}})
	}
}

// each runs f for every driver at once and waits for all.
func (l *load) each(f func(d *driver) error) error {
	var running sync.WaitGroup
	errs := make([]error, len(l.drivers))
	for i, d := range l.drivers {
		running.Go(func() { errs[i] = f(d) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (l *load) openAll(ctx context.Context) error {
	return l.each(func(d *driver) error {
		d.figures = newFigures(time.Time{}, time.Time{})
		for _, log := range d.logs {
			if err := d.reopen(ctx, log); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *load) closeAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Patience)
	defer cancel()
	return l.each(func(d *driver) error {
		for _, log := range d.logs {
			_ = log.w.Close(ctx) // what it could not finish is recorded as unknown
		}
		return nil
	})
}

// drive runs the loop that was asked for.
func (l *load) drive(ctx context.Context) (*figures, error) {
	begun := time.Now()
	begin := begun.Add(l.opts.WarmUp)
	end := begin.Add(l.opts.Duration)
	fmt.Fprintf(l.opts.Progress, "load: %d logs, %d in flight, %d B, until %s\n", l.opts.Logs, l.opts.Inflight, l.opts.PayloadBytes, end.Format(time.TimeOnly))
	for _, d := range l.drivers {
		d.figures = newFigures(begin, end)
	}
	err := l.each(func(d *driver) error {
		if l.opts.Rate == 0 {
			return d.closed(ctx, end)
		}
		every := time.Duration(float64(time.Second) * float64(len(l.drivers)) / l.opts.Rate)
		return d.open(ctx, begun, end, max(every, 1))
	})
	total := newFigures(begin, end)
	for _, d := range l.drivers {
		total.add(d.figures)
	}
	return total, err
}
