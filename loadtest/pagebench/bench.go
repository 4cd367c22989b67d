package pagebench

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
	Dir    string        // to work in; required
	Rounds int           // of what is compared; 0 = 5
	Skew   time.Duration // how long pages are updated before reads are measured again; 0 = 90 s
	Only   []string      // parts to run; empty = all of Parts

	Out    io.Writer    // JSON lines; nil = none
	Table  io.Writer    // for people; nil = none
	Logger *slog.Logger // nil = errors on stderr
}

func (o Options) withDefaults() Options {
	o.Rounds = cmp.Or(o.Rounds, 5)
	o.Skew = cmp.Or(o.Skew, 90*time.Second)
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

// part is a group of figures that are measured together.
type part struct {
	name string
	took time.Duration // about, for 5 rounds on two idle cores; skew without its updates
	do   func(*run, context.Context) error
}

var parts = []part{
	{"ingest", 45 * time.Second, (*run).ingest},
	{"chain", 60 * time.Second, (*run).chain},
	{"grpc", 25 * time.Second, (*run).grpc},
	{"coldstart", 150 * time.Second, (*run).coldstart},
	{"skew", 20 * time.Second, (*run).skew},
	{"branches", 60 * time.Second, (*run).branches},
}

// Parts names what can be measured, in order.
func Parts() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// Expected is how long a run takes about.
func (o Options) Expected() time.Duration {
	o = o.withDefaults()
	total := time.Duration(0)
	for _, p := range parts {
		if !o.runs(p.name) {
			continue
		}
		total += p.took
		if p.name == "skew" {
			total += o.Skew
		}
	}
	return total
}

func (o Options) runs(part string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, part) }

func (o Options) validate() error {
	for _, name := range o.Only {
		if !slices.Contains(Parts(), name) {
			return fmt.Errorf("there is no part %q: want %s", name, strings.Join(Parts(), ", "))
		}
	}
	return nil
}

// run is one run.
type run struct {
	o       Options
	dir     string
	figures []Figure
}

// Run measures and returns every figure. An error means that something could not be
// measured; a figure that was missed is none.
func Run(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
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
	fmt.Fprintf(o.Table, "| %-58s | %12s | %-9s | %-10s | %-6s |\n|%s|%s|%s|%s|%s|\n", "figure", "value", "unit", "wanted", "", strings.Repeat("-", 60), strings.Repeat("-", 13)+":", strings.Repeat("-", 11), strings.Repeat("-", 12), strings.Repeat("-", 8))
	for _, p := range parts {
		if !o.runs(p.name) {
			continue
		}
		runtime.GC()
		if err := p.do(r, ctx); err != nil {
			return r.figures, fmt.Errorf("%s: %w", p.name, err)
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
	fmt.Fprintf(r.o.Table, "| %-58s | %12.3f | %-9s | %-10s | %-6s |\n", f.Figure, f.Value, f.Unit, f.Wanted, verdict)
}

// timing is what one contender took, in seconds; medians of its rounds.
type timing struct {
	wall      float64
	processor float64 // on a machine that others use too, it tells more
}

// clock is what a contender's time is taken with: from begin to end, or from its call to
// its return where it calls neither.
type clock struct {
	start, stop     time.Time
	used, usedAtEnd float64
}

func (c *clock) begin() { c.start, c.used = time.Now(), processorSeconds() }

func (c *clock) end() { c.stop, c.usedAtEnd = time.Now(), processorSeconds() }

// contender is one side of a comparison.
type contender struct {
	name string
	do   func(c *clock) error
}

// contest lets the contenders take turns; the first round warms up.
func (r *run) contest(ctx context.Context, contenders ...contender) (map[string]timing, error) {
	took, worked := map[string][]float64{}, map[string][]float64{}
	for round := range r.o.Rounds + 1 {
		for _, c := range contenders {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			runtime.GC()
			k := &clock{}
			k.begin()
			if err := c.do(k); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if k.stop.IsZero() {
				k.end()
			}
			if round > 0 {
				took[c.name] = append(took[c.name], k.stop.Sub(k.start).Seconds())
				worked[c.name] = append(worked[c.name], k.usedAtEnd-k.used)
			}
		}
	}
	out := map[string]timing{}
	for _, c := range contenders {
		out[c.name] = timing{median(took[c.name]), median(worked[c.name])}
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

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile returns the value that a share of all is not above.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
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
