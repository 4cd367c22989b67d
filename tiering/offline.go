package tiering

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/logcore/logcore"
)

// frozen is a hot tier that holds nothing: all there is, is archived.
type frozen struct{ covered logcore.LSN }

var _ Source = frozen{}

func (f frozen) Committed() logcore.LSN { return f.covered }
func (f frozen) Last() logcore.LSN      { return f.covered }

func (f frozen) WaitCommitted(ctx context.Context, lsn logcore.LSN) error {
	if lsn <= f.covered {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f frozen) Segments() []Segment { return nil }

func (f frozen) ReadSpan(_ context.Context, first, _ logcore.LSN, _ int64) (Span, error) {
	return Span{}, fmt.Errorf("%w: entry %d: there is no hot tier here", logcore.ErrTrimmed, first)
}

func (f frozen) Trim(context.Context, logcore.LSN) error { return nil }
func (f frozen) Pressure() (used, limit int64)           { return 0, 0 }

// Offline takes care of an archive whose service is stopped: it calls do with an archiver
// that has no hot tier, repairs, moves and re-codes meanwhile, and ends with it. It goes on
// in the epoch of the last archiver and leaves no claim, so that the service can start
// again as if nothing had been. Should the service run all the same, one of the two is
// fenced by the first record that both write. Of o, Targets, Keys, Cluster and Shard are
// used, and what bounds the work. It fails as OpenReader does.
func Offline(ctx context.Context, o Options, do func(ctx context.Context, a *Archiver) error) error {
	r, err := OpenReader(ctx, ReaderOptions{Targets: o.Targets, Keys: o.Keys, Cluster: o.Cluster, Shard: o.Shard, OpTimeout: o.OpTimeout, Logger: o.Logger})
	if err != nil {
		return err
	}
	s := r.view()
	o.Cluster, o.Epoch, o.Incarnation, o.Supersedes, o.Source = r.Cluster(), r.Epoch(), max(s.incarnation, 1), 0, frozen{s.covered()}
	if len(s.path) > 0 {
		o.K, o.M = s.path[len(s.path)-1].K, s.path[len(s.path)-1].M
	}
	a, err := newArchiver(o)
	if err != nil {
		return err
	}
	a.o.Incarnation = s.incarnation // 0 stays 0: any hot tier that continues the archive may go on
	m, err := a.look(ctx)
	if err == nil {
		err = a.adopt(ctx, m)
	}
	if err != nil {
		return err
	}
	return a.careWhile(ctx, do)
}

// careWhile runs the lanes that take care while do runs, and waits for them.
func (a *Archiver) careWhile(ctx context.Context, do func(ctx context.Context, a *Archiver) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer a.background.end()
	var lanes sync.WaitGroup
	for _, lane := range []func(context.Context) error{a.careLane, a.tidyLane} {
		lanes.Go(func() {
			if err := lane(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	err := do(ctx, a)
	cause := context.Cause(ctx)
	cancel(nil)
	lanes.Wait()
	if err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(err, cause)
	}
	return err
}
