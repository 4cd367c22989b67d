package replbench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// turn is what one contender measured once.
type turn struct {
	perSecond float64
	p50, p99  float64 // µs
	ops       float64 // all that were carried out, those of the warm-up too

	// For each of ops, of this process and those that serve the contender: processor time in µs, context switches of threads,
	// allocations on the heap; and the services' part of them.
	cpu, switches, allocs     float64
	serviceCPU, serviceAllocs float64
}

// figure is the JSON line of one contender of one cell: medians over the rounds.
type figure struct {
	Bench     string  `json:"bench"`
	Cell      string  `json:"cell"`
	Contender string  `json:"contender"`
	Rounds    int     `json:"rounds"`
	PerSecond float64 `json:"ops_per_s"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	// What an operation costs, client and services together, and the services' part.
	CPU           float64 `json:"cpu_us_per_op,omitempty"`
	ServiceCPU    float64 `json:"service_cpu_us_per_op,omitempty"`
	Switches      float64 `json:"switches_per_op,omitempty"`
	Allocs        float64 `json:"allocs_per_op,omitempty"`
	ServiceAllocs float64 `json:"service_allocs_per_op,omitempty"`
	// Ratio is the median over the rounds of this contender's figure to the limit's in the
	// same round: of ops_per_s, or of p50_us where the cell is about latency.
	Ratio float64 `json:"ratio,omitempty"`
	// Goal is what the ratio, or ops_per_s when there is none, is to reach.
	Goal string `json:"goal,omitempty"`
	Met  *bool  `json:"met,omitempty"`
	Note string `json:"note,omitempty"`
}

// median of a list that is not empty; NaN of an empty one.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func of(turns []turn, f func(turn) float64) (out []float64) {
	for _, t := range turns {
		out = append(out, f(t))
	}
	return out
}

func perSecond(t turn) float64 { return t.perSecond }
func p50(t turn) float64       { return t.p50 }
func p99(t turn) float64       { return t.p99 }

func newFigure(cell, contender string, turns []turn) figure {
	middle := func(f func(turn) float64) float64 { return round(median(of(turns, f))) }
	return figure{Bench: "replication", Cell: cell, Contender: contender, Rounds: len(turns), PerSecond: middle(perSecond), P50: middle(p50), P99: middle(p99),
		CPU: middle(func(t turn) float64 { return t.cpu }), ServiceCPU: middle(func(t turn) float64 { return t.serviceCPU }), Switches: middle(func(t turn) float64 { return t.switches }),
		Allocs: middle(func(t turn) float64 { return t.allocs }), ServiceAllocs: middle(func(t turn) float64 { return t.serviceAllocs })}
}

func round(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v*1000) / 1000
}

// ratios returns, round by round, f of a over g of the limits in the same round.
func ratios(a []turn, f func(turn) float64, limit []float64) (out []float64) {
	for i := range min(len(a), len(limit)) {
		if limit[i] > 0 {
			out = append(out, f(a[i])/limit[i])
		}
	}
	return out
}

// want holds a value against a goal: at least, or at most, a limit.
func (f *figure) want(goal string, met bool) {
	f.Goal, f.Met = goal, &met
}

func emit(w io.Writer, figures []figure) error {
	enc := json.NewEncoder(w)
	for _, f := range figures {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

func table(w io.Writer, figures []figure) {
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "cell\tcontender\tops/s\tp50 µs\tp99 µs\tcpu µs\tswitches\tallocs\tratio\tgoal\tmet\t")
	for _, f := range figures {
		met, ratio := "", ""
		if f.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*f.Met]
		}
		if f.Ratio != 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.1f\t%s\t%s\t%s\t\n", f.Cell, f.Contender, f.PerSecond, f.P50, f.P99, f.CPU, f.Switches, f.Allocs, ratio, f.Goal, met)
	}
	t.Flush()
}
