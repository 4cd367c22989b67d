package figures

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/metrics"
	"slices"
	"syscall"
	"time"
)

// Timing is what one contender took, in seconds.
type Timing struct {
	Median, Best float64 // of its rounds, by the clock
	Processor    float64 // median of processor seconds: on a machine that others use too, they tell more
	Allocations  float64 // median of the objects that the whole process allocated
}

// Clock is what a contender's time is taken with: from Begin to End, or from its call to its
// return where it calls neither.
type Clock struct {
	start, stop     time.Time
	used, usedAtEnd float64 // processor seconds
	made, madeAtEnd float64 // objects
}

// Begin says that what went before does not count.
func (c *Clock) Begin() { c.made, c.used, c.start = objects(), processorSeconds(), time.Now() }

// End says that what comes after does not count.
func (c *Clock) End() { c.stop, c.usedAtEnd, c.madeAtEnd = time.Now(), processorSeconds(), objects() }

// Contender is one side of a comparison.
type Contender struct {
	Name string
	Do   func(*Clock) error
}

// Contenders are those of a map, in the order of their names.
func Contenders(all map[string]func() error) (out []Contender) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		do := all[name]
		out = append(out, Contender{name, func(*Clock) error { return do() }})
	}
	return out
}

// Contest lets the contenders take turns; a first round, which does not count, warms up.
func Contest(ctx context.Context, rounds int, contenders ...Contender) (map[string]Timing, error) {
	took, worked, made := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for round := range rounds + 1 {
		for _, c := range contenders {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			runtime.GC()
			k := &Clock{}
			k.Begin()
			if err := c.Do(k); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
			if k.stop.IsZero() {
				k.End()
			}
			if round > 0 {
				took[c.Name] = append(took[c.Name], k.stop.Sub(k.start).Seconds())
				worked[c.Name] = append(worked[c.Name], k.usedAtEnd-k.used)
				made[c.Name] = append(made[c.Name], k.madeAtEnd-k.made)
			}
		}
	}
	out := map[string]Timing{}
	for _, c := range contenders {
		out[c.Name] = Timing{Median(took[c.Name]), Quantile(took[c.Name], 0), Median(worked[c.Name]), Median(made[c.Name])}
	}
	return out, nil
}

// objects is how many this process has allocated.
func objects() float64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	return float64(sample[0].Value.Uint64())
}

// processorSeconds is what this process has used.
func processorSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// Median is the middle one of some values, 0 when there are none.
func Median(v []float64) float64 { return Quantile(v, 0.5) }

// Quantile returns the value that a share of all is not above, 0 when there are none.
func Quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}
