package pagebench

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
	Skew time.Duration // how long pages are updated before reads are measured again; 0 = 90 s
	// SkewRate is how many records a second they are updated with; 0 = 1000. More shows sooner
	// what becomes of a store, except for what depends on time, like flushes.
	SkewRate int
}

func (o Options) withDefaults() Options {
	o.Options = o.Options.WithDefaults()
	o.Skew, o.SkewRate = cmp.Or(o.Skew, 90*time.Second), cmp.Or(o.SkewRate, 1000)
	return o
}

// run is one run.
type run struct {
	*figures.Run
	o Options
}

func (r *run) parts() []figures.Part {
	return []figures.Part{
		{Name: "ingest", Took: 45 * time.Second, Do: r.ingest},
		{Name: "chain", Took: 60 * time.Second, Do: r.chain},
		{Name: "grpc", Took: 25 * time.Second, Do: r.grpc},
		{Name: "coldstart", Took: 150 * time.Second, Do: r.coldstart},
		{Name: "skew", Took: 20*time.Second + r.o.Skew, Do: r.skew},
		{Name: "branches", Took: 60 * time.Second, Do: r.branches},
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
