package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// line is one object on standard output. Everything measured is a median over the
// rounds; min and max are over the rounds too.
type line struct {
	Bench         string  `json:"bench"`
	Peer          string  `json:"peer"`
	API           api     `json:"api"`
	Payload       int     `json:"payload"`
	Inflight      int     `json:"inflight"`
	OpsPerS       float64 `json:"ops_per_s"`
	MiBPerS       float64 `json:"mib_per_s"`
	P50           float64 `json:"p50_us"`
	P99           float64 `json:"p99_us"`
	P999          float64 `json:"p999_us"`
	LimitRatio    float64 `json:"limit_ratio"`
	AllocsPerOp   float64 `json:"allocs_per_op"`
	WriteAmp      float64 `json:"write_amp"`
	CPUPerOp      float64 `json:"cpu_us_per_op"`
	Rounds        int     `json:"rounds"`
	OpsPerSMin    float64 `json:"ops_per_s_min"`
	OpsPerSMax    float64 `json:"ops_per_s_max"`
	LimitRatioMin float64 `json:"limit_ratio_min"`
	LimitRatioMax float64 `json:"limit_ratio_max"`
	Limit         string  `json:"limit"` // the device limit that the ratio is taken over
}

// lines summarises a cell, one line for each contender that took a turn.
func lines(c cell, all []*series) []line {
	limit := limitOf(all)
	var out []line
	for _, s := range all {
		ops := s.pick(opsOf)
		if len(ops) == 0 {
			continue
		}
		l := line{Bench: "hotlog", Peer: s.peer, API: s.api, Payload: c.payload, Inflight: c.inflight,
			OpsPerS:     rounded(median(ops)),
			MiBPerS:     rounded(median(s.pick(func(f figures) float64 { return f.mibPerS }))),
			P50:         rounded(median(s.pick(func(f figures) float64 { return f.p50 }))),
			P99:         rounded(median(s.pick(func(f figures) float64 { return f.p99 }))),
			P999:        rounded(median(s.pick(func(f figures) float64 { return f.p999 }))),
			AllocsPerOp: rounded(median(s.pick(func(f figures) float64 { return f.allocsPerOp }))),
			WriteAmp:    rounded(median(s.pick(func(f figures) float64 { return f.writeAmp }))),
			CPUPerOp:    rounded(median(s.pick(func(f figures) float64 { return f.cpuPerOp }))),
			Rounds:      len(ops), OpsPerSMin: rounded(slices.Min(ops)), OpsPerSMax: rounded(slices.Max(ops))}
		if limit != nil {
			l.Limit = limit.peer
			if r := ratios(s, limit); len(r) > 0 {
				l.LimitRatio, l.LimitRatioMin, l.LimitRatioMax = rounded(median(r)), rounded(slices.Min(r)), rounded(slices.Max(r))
			}
		}
		out = append(out, l)
	}
	return out
}

// rounded drops the digits that are no measurement.
func rounded(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// writeJSON writes one object a line.
func writeJSON(w io.Writer, ls []line) error {
	enc := json.NewEncoder(w)
	for _, l := range ls {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

// writeTable writes a cell for people.
func writeTable(w io.Writer, c cell, ls []line) error {
	fmt.Fprintf(w, "\n%d B, %d in flight\n", c.payload, c.inflight)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "peer\tapi\tops/s\tmin..max\tMiB/s\tp50 µs\tp99 µs\tp99.9 µs\tof limit\tallocs/op\twrite amp\tCPU µs/op\trounds\t")
	for _, l := range ls {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f..%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t\n", l.Peer, l.API,
			l.OpsPerS, l.OpsPerSMin, l.OpsPerSMax, l.MiBPerS, l.P50, l.P99, l.P999, l.LimitRatio, l.AllocsPerOp, l.WriteAmp, l.CPUPerOp, l.Rounds)
	}
	return t.Flush()
}
