// Command cmd runs seeds of the deterministic simulation: make sim.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore/internal/sim"
)

func main() {
	debug.SetGCPercent(800) // a run is small and short
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

type options struct {
	seeds, from, seed uint64
	workers           int
	sim               sim.Options
}

func run(args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("sim", flag.ContinueOnError)
	f.Uint64Var(&o.seeds, "seeds", 1000, "how many seeds to run")
	f.Uint64Var(&o.from, "from", 1, "the first of them")
	f.Uint64Var(&o.seed, "seed", 0, "run this one only, and print what happens in it")
	f.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "seeds at a time")
	f.DurationVar(&o.sim.FaultsFor, "faults-for", sim.DefaultFaultsFor, "simulated time with faults, in each run")
	f.BoolVar(&o.sim.Moves, "moves", false, "several shards, between which logs move")
	f.StringVar(&o.sim.Planted, "planted", "", "plant a bug: "+strings.Join(sim.Planted, ", "))
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || o.workers < 1 {
		return errors.New("want flags only, and at least one worker: see -help")
	}
	if o.seed != 0 {
		return replay(o, out)
	}
	return many(o, out)
}

// replay runs one seed and prints its schedule.
func replay(o options, out io.Writer) error {
	o.sim.Trace = true
	r := sim.Run(o.seed, o.sim)
	fmt.Fprintln(out, r.Trace)
	fmt.Fprintf(out, "seed %d: trace %016x, %v simulated\n%v\n", r.Seed, r.Hash, r.Took.Round(time.Millisecond), r.Counts)
	if r.Err != nil {
		return fmt.Errorf("seed %d: %w", r.Seed, r.Err)
	}
	return nil
}

// many runs a range of seeds, and stops at the first that fails.
func many(o options, out io.Writer) error {
	var next, done atomic.Uint64
	var mu sync.Mutex // guards what follows
	var counts sim.Counts
	var failed *sim.Result
	var slowest sim.Result // to make progress
	began := time.Now()
	next.Store(o.from)
	var workers sync.WaitGroup
	for range o.workers {
		workers.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= o.from+o.seeds {
					return
				}
				r := sim.Run(seed, o.sim)
				n := done.Add(1)
				mu.Lock()
				counts.Add(r.Counts)
				if r.Progress > slowest.Progress {
					slowest = r
				}
				if r.Err != nil && (failed == nil || r.Seed < failed.Seed) {
					failed = &r
					next.Store(o.from + o.seeds)
				}
				mu.Unlock()
				if n%1000 == 0 {
					fmt.Fprintf(out, "%d seeds, %.0f a second\n", n, float64(n)/time.Since(began).Seconds())
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	fmt.Fprintf(out, "%d seeds from %d on, in %v, %.0f a second\n%v\nthe longest way back to progress after the faults: %v simulated, seed %d\n",
		done.Load(), o.from, took.Round(time.Millisecond), float64(done.Load())/took.Seconds(), counts, slowest.Progress.Round(time.Millisecond), slowest.Seed)
	if failed != nil {
		if err := replay(options{seed: failed.Seed, sim: o.sim}, out); err == nil {
			return fmt.Errorf("seed %d failed (%w) and then did not: something in it depends on more than the seed", failed.Seed, failed.Err)
		}
		return fmt.Errorf("seed %d, after %d seeds: %w\nreplay it with: make sim SEED=%d%s", failed.Seed, done.Load(), failed.Err, failed.Seed, args(o.sim))
	}
	return counts.VoidOf(o.sim, done.Load())
}

// args are the flags that a replay needs beside the seed.
func args(o sim.Options) string {
	var list []string
	if o.FaultsFor != sim.DefaultFaultsFor {
		list = append(list, "-faults-for "+o.FaultsFor.String())
	}
	if o.Moves {
		list = append(list, "-moves")
	}
	if o.Planted != "" {
		list = append(list, "-planted "+o.Planted)
	}
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf(" ARGS=%q", strings.Join(list, " "))
}
