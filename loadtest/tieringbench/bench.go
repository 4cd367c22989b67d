package tieringbench

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/logcore/logcore/loadtest/figures"
)

// Options says what to measure.
type Options struct {
	figures.Options
	Logcore string        // the logcore binary: its demo makes the log that is archived; required
	RPO     time.Duration // how long the RPO is measured; 0 = 5 min
	Rate    int           // appends a second meanwhile; 0 = 5,000
	Slow    time.Duration // what one gateway adds to every round trip meanwhile; 0 = 300 ms
}

func (o Options) withDefaults() Options {
	o.Options = o.Options.WithDefaults()
	o.RPO = cmp.Or(o.RPO, 5*time.Minute)
	o.Rate = cmp.Or(o.Rate, 5000)
	o.Slow = cmp.Or(o.Slow, 300*time.Millisecond)
	return o
}

// run is one run.
type run struct {
	*figures.Run
	o   Options
	log []byte // frames of the SQLite demo's log, made when it is first needed
}

func (r *run) parts() []figures.Part {
	return []figures.Part{
		{Name: "codec", Took: 10 * time.Second, Do: r.codec},
		{Name: "pipeline", Took: 50 * time.Second, Do: r.pipeline},
		{Name: "memory", Took: 15 * time.Second, Do: r.memory},
		{Name: "space", Took: 20 * time.Second, Do: r.space},
		{Name: "gateways", Took: 50 * time.Second, Do: r.gateways},
		{Name: "rpo", Took: 20*time.Second + r.o.RPO, Do: r.rpo},
	}
}

// Parts names what can be measured, in order.
func Parts() []string { return figures.Names((&run{}).parts()) }

// Expected is how long a run takes about.
func (o Options) Expected() time.Duration {
	o = o.withDefaults()
	return o.Options.Expected((&run{o: o}).parts())
}

// Run measures and returns every figure. An error means that something could not be
// measured; a figure that was missed is none.
func Run(ctx context.Context, o Options) (_ []figures.Figure, err error) {
	o = o.withDefaults()
	f, err := figures.Start(o.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := &run{Run: f, o: o}
	err = r.Measure(ctx, r.parts())
	return r.Figures, err
}
