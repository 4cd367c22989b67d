package tieringbench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options says what to measure.
type Options struct {
	Dir     string        // to work in; required
	Logcore string        // the logcore binary: its demo makes the log that is archived; required
	Rounds  int           // of what is compared; 0 = 5
	RPO     time.Duration // how long the RPO is measured; 0 = 5 min
	Rate    int           // appends a second meanwhile; 0 = 5,000
	Slow    time.Duration // what one gateway adds to every round trip meanwhile; 0 = 300 ms
	Only    []string      // parts to run; empty = all: codec, pipeline, memory, space, gateways, rpo

	Out    io.Writer    // JSON lines; nil = none
	Table  io.Writer    // for people; nil = none
	Logger *slog.Logger // nil = errors on stderr
}

func (o Options) withDefaults() Options {
	o.Rounds = cmp.Or(o.Rounds, 5)
	o.RPO = cmp.Or(o.RPO, 5*time.Minute)
	o.Rate = cmp.Or(o.Rate, 5000)
	o.Slow = cmp.Or(o.Slow, 300*time.Millisecond)
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Table == nil {
		o.Table = io.Discard
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	return o
}

// Figure is one measured figure. Wanted is what it is held against; OK says that it was met.
type Figure struct {
	Figure string         `json:"figure"`
	Value  float64        `json:"value"`
	Unit   string         `json:"unit"`
	Wanted string         `json:"wanted,omitempty"` // ">= 0.6"
	OK     *bool          `json:"ok,omitempty"`
	Detail map[string]any `json:"detail,omitempty"`
}

// Expected is how long a run takes about.
func (o Options) Expected() time.Duration {
	o = o.withDefaults()
	total := time.Duration(0)
	for part, d := range map[string]time.Duration{"codec": 10 * time.Second, "pipeline": 50 * time.Second, "memory": 15 * time.Second,
		"space": 20 * time.Second, "gateways": 50 * time.Second, "rpo": o.RPO + 20*time.Second} {
		if o.runs(part) {
			total += d
		}
	}
	return total
}

func (o Options) runs(part string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, part) }

// run is one run.
type run struct {
	o       Options
	dir     string
	figures []Figure
	log     []byte // frames of the SQLite demo's log, made when it is first needed
}

// Run measures and returns every figure. An error means that something could not be
// measured; a figure that was missed is none.
func Run(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if dir, err = os.MkdirTemp(dir, "run-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &run{o: o, dir: dir}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"codec", r.codec}, {"pipeline", r.pipeline}, {"memory", r.memory}, {"space", r.space}, {"gateways", r.gateways}, {"rpo", r.rpo}} {
		if !o.runs(part.name) {
			continue
		}
		runtime.GC()
		if err := part.do(ctx); err != nil {
			return r.figures, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return r.figures, nil
}

// add reports a figure, held against nothing.
func (r *run) add(name string, value float64, unit string, detail map[string]any) {
	r.report(Figure{Figure: name, Value: value, Unit: unit, Detail: detail})
}

// atLeast and atMost report a figure and hold it against a limit.
func (r *run) atLeast(name string, value, limit float64, unit string, detail map[string]any) {
	ok := value >= limit
	r.report(Figure{Figure: name, Value: value, Unit: unit, Wanted: fmt.Sprintf(">= %g", limit), OK: &ok, Detail: detail})
}

func (r *run) atMost(name string, value, limit float64, unit string, detail map[string]any) {
	ok := value <= limit
	r.report(Figure{Figure: name, Value: value, Unit: unit, Wanted: fmt.Sprintf("<= %g", limit), OK: &ok, Detail: detail})
}

func (r *run) report(f Figure) {
	r.figures = append(r.figures, f)
	line, err := json.Marshal(f)
	if err != nil {
		panic(err) // numbers and strings
	}
	fmt.Fprintf(r.o.Out, "%s\n", line)
	verdict := ""
	if f.OK != nil {
		if verdict = "ok"; !*f.OK {
			verdict = "MISSED"
		}
	}
	fmt.Fprintf(r.o.Table, "%-46s %12.3f %-6s %-10s %s\n", f.Figure, f.Value, f.Unit, f.Wanted, verdict)
}

// timing is what one contender took, in seconds.
type timing struct {
	median, best float64
	processor    float64 // median of processor seconds: on a machine that others use too, they tell more
}

// contest measures each in turns.
func (r *run) contest(ctx context.Context, rounds int, contenders map[string]func() error) (map[string]timing, error) {
	names := make([]string, 0, len(contenders))
	for n := range contenders {
		names = append(names, n)
	}
	slices.Sort(names)
	took, worked := map[string][]float64{}, map[string][]float64{}
	for round := range rounds + 1 { // the first warms up
		for _, n := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			start, used := time.Now(), processorSeconds()
			if err := contenders[n](); err != nil {
				return nil, fmt.Errorf("%s: %w", n, err)
			}
			if round > 0 {
				took[n] = append(took[n], time.Since(start).Seconds())
				worked[n] = append(worked[n], processorSeconds()-used)
			}
		}
	}
	out := map[string]timing{}
	for n := range took {
		out[n] = timing{median(took[n]), slices.Min(took[n]), median(worked[n])}
	}
	return out, nil
}

// processorSeconds is what this process has used.
func processorSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// Missed names the figures that were missed.
func Missed(figures []Figure) error {
	var missed []string
	for _, f := range figures {
		if f.OK != nil && !*f.OK {
			missed = append(missed, fmt.Sprintf("%s is %.3f, wanted %s", f.Figure, f.Value, f.Wanted))
		}
	}
	if len(missed) == 0 {
		return nil
	}
	return errors.New(strings.Join(missed, "; "))
}
