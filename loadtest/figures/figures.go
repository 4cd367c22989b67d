// Package figures is the frame of a benchmark whose figures are held against limits: parts
// that are measured one after the other, contenders that take turns within one run, figures
// as JSON lines for programs and as a table for people.
package figures

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
	"time"
)

// Options are what every benchmark of this frame has.
type Options struct {
	Dir    string   // to work in; required
	Rounds int      // of what is compared; 0 = 5
	Only   []string // parts to run; empty = all

	Out    io.Writer    // JSON lines; nil = none
	Table  io.Writer    // for people; nil = none
	Logger *slog.Logger // nil = errors on stderr
}

// WithDefaults returns the options with what was left out.
func (o Options) WithDefaults() Options {
	o.Rounds = cmp.Or(o.Rounds, 5)
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

// Part is a group of figures that are measured together.
type Part struct {
	Name string
	Took time.Duration // about, for 5 rounds on two idle cores
	Do   func(context.Context) error
}

// Names returns the names of parts, in order.
func Names(parts []Part) []string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.Name
	}
	return names
}

// Expected is how long those of the parts that the options ask for take about.
func (o Options) Expected(parts []Part) (total time.Duration) {
	for _, p := range parts {
		if o.runs(p.Name) {
			total += p.Took
		}
	}
	return total
}

func (o Options) runs(part string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, part) }

// Run is one run of a benchmark.
type Run struct {
	Dir     string // of this run alone
	Figures []Figure
	o       Options
}

// Start begins a run, in a directory of its own below that of the options, which Close removes.
func Start(o Options) (*Run, error) {
	o = o.WithDefaults()
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
	return &Run{Dir: dir, o: o}, nil
}

// Close removes the run's directory.
func (r *Run) Close() error { return os.RemoveAll(r.Dir) }

// Measure measures those of the parts that the options ask for. An error means that
// something could not be measured; a figure that was missed is none.
func (r *Run) Measure(ctx context.Context, parts []Part) error {
	for _, name := range r.o.Only {
		if !slices.Contains(Names(parts), name) {
			return fmt.Errorf("there is no part %q: want %s", name, strings.Join(Names(parts), ", "))
		}
	}
	fmt.Fprintf(r.o.Table, "| %-58s | %12s | %-9s | %-10s | %-6s |\n|%s|%s|%s|%s|%s|\n", "figure", "value", "unit", "wanted", "", strings.Repeat("-", 60), strings.Repeat("-", 13)+":", strings.Repeat("-", 11), strings.Repeat("-", 12), strings.Repeat("-", 8))
	for _, p := range parts {
		if !r.o.runs(p.Name) {
			continue
		}
		runtime.GC()
		if err := p.Do(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

// Add reports a figure, held against nothing.
func (r *Run) Add(name string, value float64, unit string, detail map[string]any) {
	r.report(Figure{Figure: name, Value: value, Unit: unit, Detail: detail})
}

// AtLeast reports a figure and holds it against a lower limit.
func (r *Run) AtLeast(name string, value, limit float64, unit string, detail map[string]any) {
	ok := value >= limit
	r.report(Figure{Figure: name, Value: value, Unit: unit, Wanted: fmt.Sprintf(">= %g", limit), OK: &ok, Detail: detail})
}

// AtMost reports a figure and holds it against an upper limit.
func (r *Run) AtMost(name string, value, limit float64, unit string, detail map[string]any) {
	ok := value <= limit
	r.report(Figure{Figure: name, Value: value, Unit: unit, Wanted: fmt.Sprintf("<= %g", limit), OK: &ok, Detail: detail})
}

func (r *Run) report(f Figure) {
	r.Figures = append(r.Figures, f)
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

// Missed names the figures that were missed; nil when there are none.
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
