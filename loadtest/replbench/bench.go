package replbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/loadtest/appendload"
)

// bench is one run.
type bench struct {
	Options
	dir     string
	figures []figure
	paths   int // used
}

// Run measures the cells and writes the figures. It returns an error when a cell could not
// be measured; the others are nevertheless. That a goal was not met is no error.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "bench-replication-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{Options: o, dir: dir}
	fmt.Fprintf(o.Log, "bench-replication: %d rounds of %v, %d kills: about %v\n", o.Rounds, o.Turn, o.Kills, o.expected().Round(10*time.Second))
	var errs []error
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"one member", b.oneMember}, {"three members", b.threeMembers}} {
		if err := part.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
			fmt.Fprintf(o.Log, "bench-replication: %s: %v\n", part.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	table(o.Log, b.figures)
	return errors.Join(append(errs, emit(o.Figures, b.figures))...)
}

// path returns a new path in the run's directory.
func (b *bench) path(name string) string {
	b.paths++
	return filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, b.paths))
}

// load is one turn of the append load against a service, on logs that all turns of a
// contender share.
func (b *bench) load(ctx context.Context, addr, prefix string, logs, inflight int) (turn, error) {
	rep, err := appendload.Run(ctx, appendload.Options{Client: client.Options{Addr: addr}, Logs: logs, Prefix: prefix, PayloadBytes: payloadBytes,
		Inflight: inflight, WarmUp: b.Turn / 4, Duration: b.Turn})
	if err == nil && rep.Unknown+rep.Refused > 0 {
		err = fmt.Errorf("%d appends of unknown outcome and %d refused: %v", rep.Unknown, rep.Refused, rep.Faults)
	}
	return turn{perSecond: rep.PerSecond, p50: rep.P50, p99: rep.P99, ops: float64(rep.Acked)}, err
}

// contender is one of those that take turns in a cell.
type contender struct {
	name string
	run  func(context.Context) (turn, error)
	by   []served // the processes that serve it; none: all of it is in this one
}

// turn is one of the contender's.
func (c contender) turn(ctx context.Context) (turn, error) {
	m := meter{services: c.by}
	if err := m.begin(); err != nil {
		return turn{}, err
	}
	t, err := c.run(ctx)
	if err != nil {
		return t, err
	}
	return t, m.end(&t)
}

// rounds has the contenders take turns, in an order that begins one place further each
// round. The turns of each are in the order of the rounds.
func (b *bench) rounds(ctx context.Context, cell string, contenders ...contender) (map[string][]turn, error) {
	turns := map[string][]turn{}
	for round := range b.Rounds {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			t, err := c.turn(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d, %s: %w", cell, round+1, c.name, err)
			}
			turns[c.name] = append(turns[c.name], t)
		}
	}
	return turns, nil
}
