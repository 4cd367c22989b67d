package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{100, 1, 50, 2, 3}, 3},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("median reordered its argument: %v", c.values)
		}
	}
}

func TestRotationCoversAllPlaces(t *testing.T) {
	for n := 1; n <= 20; n++ {
		seen := map[[2]int]bool{} // contender, place
		for round := range n {
			order := rotation(n, round)
			if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(sorted, rotation(n, 0)) {
				t.Fatalf("round %d of %d is no permutation: %v", round, n, order)
			}
			for place, i := range order {
				seen[[2]int{i, place}] = true
			}
		}
		if len(seen) != n*n {
			t.Errorf("over %d rounds %d contenders stood at %d of %d places", n, n, len(seen), n*n)
		}
	}
}

func TestRoundsAreInterleaved(t *testing.T) {
	list := []contender{{peer: "a"}, {peer: "b"}, {peer: "c"}}
	var order []string
	broken := errors.New("b breaks")
	all, err := runCell(context.Background(), list, 3, func(c contender) (figures, error) {
		order = append(order, c.peer)
		if c.peer == "b" && len(order) > 3 {
			return figures{}, broken
		}
		return figures{opsPerS: float64(len(order))}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abc"+"bca"+"ca" {
		t.Errorf("order of turns: %s", got)
	}
	if !errors.Is(all[1].err, broken) || all[0].err != nil || all[2].err != nil {
		t.Errorf("errors: %v, %v, %v", all[0].err, all[1].err, all[2].err)
	}
	if got := all[1].pick(opsOf); !slices.Equal(got, []float64{2}) {
		t.Errorf("b's turns: %v", got)
	}
}

// Known numbers through the whole summary: the limit is the one with the higher
// median, ratios are within a round, figures are medians.
func TestSummaryOfKnownNumbers(t *testing.T) {
	turns := func(ops ...float64) []*figures {
		var fs []*figures
		for _, o := range ops {
			if o == 0 {
				fs = append(fs, nil)
				continue
			}
			fs = append(fs, &figures{opsPerS: o, mibPerS: o / 10, p50: o + 1, p99: o + 2, p999: o + 3, allocsPerOp: o + 4, writeAmp: o + 5})
		}
		return fs
	}
	all := []*series{
		{contender: contender{peer: "spiky", limit: true}, turns: turns(900, 90, 80)},
		{contender: contender{peer: "steady", limit: true}, turns: turns(100, 200, 400)},
		{contender: contender{peer: "log", api: async}, turns: turns(50, 160, 100)},
		{contender: contender{peer: "once"}, turns: turns(0, 100, 0)},
		{contender: contender{peer: "never"}, turns: turns(0, 0, 0)},
	}
	ls := lines(cell{128, 64}, all)
	if len(ls) != 4 {
		t.Fatalf("%d lines, want one for each that took a turn", len(ls))
	}
	want := line{Bench: "hotlog", Peer: "log", API: async, Payload: 128, Inflight: 64,
		OpsPerS: 100, MiBPerS: 10, P50: 101, P99: 102, P999: 103, AllocsPerOp: 104, WriteAmp: 105,
		LimitRatio: 0.5, LimitRatioMin: 0.25, LimitRatioMax: 0.8, Rounds: 3, OpsPerSMin: 50, OpsPerSMax: 160, Limit: "steady"}
	if ls[2] != want {
		t.Errorf("got  %+v\nwant %+v", ls[2], want)
	}
	if ls[1].LimitRatio != 1 || ls[3].LimitRatio != 0.5 || ls[3].Rounds != 1 {
		t.Errorf("the limit's own ratio is %v, once's %v over %d rounds", ls[1].LimitRatio, ls[3].LimitRatio, ls[3].Rounds)
	}
}

func TestFiguresOfKnownNumbers(t *testing.T) {
	c := cell{1 << 10, 64}
	m := newMeter(c, counter{})
	for i := range 1000 {
		if err := m.hist.RecordValue(int64(i+1) * 1000); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	m.before = reading{at: start, ops: 500, mallocs: 10, written: 1000}
	m.after = reading{at: start.Add(2 * time.Second), ops: 4596, mallocs: 10 + 8192, written: 1000 + 3*4096*1024}
	f, err := m.figures(c)
	if err != nil {
		t.Fatal(err)
	}
	near := func(name string, got, want float64) {
		if got < want*0.998 || got > want*1.002 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	near("ops", f.opsPerS, 2048)
	near("MiB", f.mibPerS, 2)
	near("p50", f.p50, 500)
	near("p99", f.p99, 990)
	near("p99.9", f.p999, 999)
	near("allocs", f.allocsPerOp, 2)
	near("write amp", f.writeAmp, 3)
	m.after.ops = m.before.ops
	if _, err := m.figures(c); err == nil {
		t.Error("a turn without an append has figures")
	}
}

func TestSelectCells(t *testing.T) {
	for filter, want := range map[string]string{
		"":               "12",
		"128x64":         "128x64",
		"128x64,8192x1":  "128x64 8192x1",
		"*x256":          "128x256 1024x256 8192x256",
		"1024x*,1024x16": "1024x1 1024x16 1024x64 1024x256",
		"128x65":         "error",
		"128x64,nothing": "error",
		"[":              "error",
	} {
		cells, err := selectCells(filter)
		var got []string
		for _, c := range cells {
			got = append(got, c.String())
		}
		switch text := strings.Join(got, " "); {
		case want == "error" && err == nil:
			t.Errorf("%q: no error, got %s", filter, text)
		case want == "12" && len(cells) != 12:
			t.Errorf("no filter: %d cells", len(cells))
		case want != "error" && want != "12" && text != want:
			t.Errorf("%q: got %s, want %s (%v)", filter, text, want, err)
		}
	}
}
