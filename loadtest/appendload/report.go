package appendload

import "time"

// Report is what a load measured; as JSON it is one line.
type Report struct {
	Kind     string   `json:"kind"` // "append"
	Loop     string   `json:"loop"` // "open" or "closed"
	Addrs    []string `json:"addrs"`
	Run      uint64   `json:"run,string"`
	Logs     int      `json:"logs"`
	Payload  int      `json:"payload"`
	Inflight int      `json:"inflight"`
	Rate     float64  `json:"rate,omitempty"` // appends due each second
	Seconds  float64  `json:"seconds"`

	PerSecond float64 `json:"appends_per_s"` // acknowledged
	MiBPerS   float64 `json:"mib_per_s"`
	P50       float64 `json:"p50_us"`
	P90       float64 `json:"p90_us"`
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
	Max       float64 `json:"max_us"`
	// GapMax is the longest time in which nothing was acknowledged to one of the load's
	// drivers.
	GapMax float64 `json:"gap_max_ms"`

	Acked    uint64   `json:"acked"`
	Unknown  uint64   `json:"unknown"`  // of unknown outcome
	Refused  uint64   `json:"refused"`  // with the promise that nothing was written
	Reopened uint64   `json:"reopened"` // writers
	Faults   []string `json:"faults,omitempty"`

	Verify *Verified `json:"verify,omitempty"` // nil: not asked for
}

// OK reports that nothing acknowledged was found missing or wrong.
func (r Report) OK() bool { return r.Verify == nil || r.Verify.OK() }

func report(o Options, run uint64, f *figures) Report {
	seconds := o.Duration.Seconds()
	us := func(q float64) float64 { return float64(f.latency.ValueAtQuantile(q)) / 1e3 }
	addrs := append([]string(nil), o.Client.Addrs...)
	if o.Client.Addr != "" {
		addrs = append(addrs, o.Client.Addr)
	}
	loop := "closed"
	if o.Rate > 0 {
		loop = "open"
	}
	return Report{Kind: "append", Loop: loop, Addrs: addrs, Run: run, Logs: o.Logs, Payload: o.PayloadBytes, Inflight: o.Inflight, Rate: o.Rate, Seconds: seconds,
		PerSecond: float64(f.measured) / seconds, MiBPerS: float64(f.measured) * float64(o.PayloadBytes) / seconds / (1 << 20),
		P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: float64(f.latency.Max()) / 1e3, GapMax: float64(f.gap) / float64(time.Millisecond),
		Acked: f.acked, Unknown: f.unknown, Refused: f.refused, Reopened: f.reopened, Faults: f.commonFaults(5)}
}
