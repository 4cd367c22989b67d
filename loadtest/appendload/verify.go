package appendload

import (
	"context"
	"fmt"
	"sync"

	"github.com/logcore/logcore/client"
)

const (
	verifiersMax = 8
	findingsMax  = 20 // told one by one
)

// verify reads every log back.
func (l *load) verify(ctx context.Context) (*Verified, error) {
	var logs []*logState
	for _, d := range l.drivers {
		logs = append(logs, d.logs...)
	}
	fmt.Fprintf(l.opts.Progress, "load: reading %d logs back\n", len(logs))
	var (
		mu    sync.Mutex
		total Verified
		told  int
		first error
	)
	found := func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		if told++; told <= findingsMax {
			fmt.Fprintln(l.opts.Progress, "load: WRONG:", f)
		}
	}
	work := make(chan *logState)
	var running sync.WaitGroup
	for range min(verifiersMax, len(logs)) {
		running.Go(func() {
			for log := range work {
				v, err := l.verifyLog(ctx, &log.record, found)
				mu.Lock()
				total.add(v)
				if err != nil && first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	for _, log := range logs {
		work <- log
	}
	close(work)
	running.Wait()
	return &total, first
}

func (l *load) verifyLog(ctx context.Context, r *record, found func(Finding)) (Verified, error) {
	c := &check{r: r, run: l.run, bytes: l.opts.PayloadBytes, found: found, scratch: make([]byte, l.opts.PayloadBytes)}
	for batch, err := range l.client.Read(ctx, r.name, client.ReadOptions{From: r.from}) {
		if err != nil {
			return c.v, fmt.Errorf("load: read log %s back: %w", r.name, err)
		}
		for _, e := range batch.Entries {
			c.visit(e)
		}
	}
	return c.done(), nil
}
