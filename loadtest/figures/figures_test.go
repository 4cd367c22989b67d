package figures

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRun: parts run in order, only those asked for; a figure is told to programs and to
// people, held against its limit, and its run leaves no file behind.
func TestRun(t *testing.T) {
	var out, table bytes.Buffer
	var ran []string
	var r *Run
	part := func(name string, do func()) Part {
		return Part{name, time.Minute, func(context.Context) error { ran = append(ran, name); do(); return nil }}
	}
	parts := []Part{
		part("a", func() { r.AtLeast("fast", 0.5, 0.6, "", nil) }),
		part("b", func() { t.Error("was not asked for") }),
		part("c", func() { r.AtMost("slow", 1, 1, "s", map[string]any{"n": 3}); r.Add("curious", 7, "", nil) }),
	}
	o := Options{Dir: t.TempDir(), Only: []string{"c", "a"}, Out: &out, Table: &table}
	if got := o.Expected(parts); got != 2*time.Minute {
		t.Errorf("expected to take %v", got)
	}
	r, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Measure(t.Context(), parts); err != nil || strings.Join(ran, "") != "ac" {
		t.Fatalf("%v, ran %v", err, ran)
	}
	var verdicts []string
	for line := range strings.Lines(out.String()) {
		var f Figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.OK != nil {
			verdicts = append(verdicts, f.Figure, f.Wanted, map[bool]string{true: "met", false: "missed"}[*f.OK])
		}
	}
	if got := strings.Join(verdicts, " "); got != "fast >= 0.6 missed slow <= 1 met" || strings.Count(table.String(), "MISSED") != 1 {
		t.Errorf("%s\n%s", got, &table)
	}
	if err := Missed(r.Figures); err == nil || !strings.Contains(err.Error(), "fast") || strings.Contains(err.Error(), "slow") {
		t.Errorf("missed: %v", err)
	}
	if err := Missed(r.Figures[1:]); err != nil {
		t.Errorf("missed: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	r.o.Only = []string{"d"}
	if err := r.Measure(t.Context(), parts); err == nil || !strings.Contains(err.Error(), "a, b, c") {
		t.Errorf("an unknown part: %v", err)
	}
}

// TestContest: contenders take turns, the first round does not count, and of a contender
// that says when it began and ended only that counts.
func TestContest(t *testing.T) {
	var order []string
	took, err := Contest(t.Context(), 2, append(Contenders(map[string]func() error{
		"b": func() error { order = append(order, "b"); return nil },
		"a": func() error { order = append(order, "a"); return nil },
	}), Contender{"c", func(c *Clock) error {
		order = append(order, "c")
		c.Begin()
		c.End()
		c.start = c.start.Add(-time.Duration(len(order)) * time.Hour) // 3 when it warms up, then 6, then 9
		return nil
	}})...)
	if err != nil || strings.Join(order, "") != "abcabcabc" {
		t.Fatalf("%v, in the order %v", err, order)
	}
	if c := took["c"]; c.Best < 6*3600 || c.Best >= 7*3600 || c.Median < 9*3600 || c.Median >= 10*3600 {
		t.Errorf("took %+v, want 6 hours at best, 9 in the middle", c)
	}
	broken := errors.New("broken")
	if _, err := Contest(t.Context(), 2, Contender{"x", func(*Clock) error { return broken }}); !errors.Is(err, broken) || !strings.Contains(err.Error(), "x") {
		t.Errorf("a contender that fails: %v", err)
	}
	if q := Quantile([]float64{5, 1, 4, 2, 3}, 0.99); q != 5 || Median(nil) != 0 {
		t.Errorf("quantile %v", q)
	}
}
