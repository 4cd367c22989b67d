package receiver

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// Monitor keeps how the following of a server is, over all receivers that it is given to. It is a collector of
// metrics. All methods may be called by many goroutines.
type Monitor struct {
	log       string
	connected atomic.Bool
	count     atomic.Uint64 // of connections
	server    atomic.Uint64 // the end of the server's WAL, as it said last
	received  atomic.Uint64
	durable   atomic.Uint64
	oldest    atomic.Int64 // when the oldest append without an outcome was begun, Unix nanoseconds; 0: there is none
	latency   prometheus.Histogram

	mu         sync.Mutex
	conditions map[Condition]string // those that hold, with what was said; guarded by mu
}

// NewMonitor returns a monitor of what gets into a log.
func NewMonitor(log string) *Monitor {
	return &Monitor{log: log, conditions: map[Condition]string{}, latency: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "logcore_postgres_acknowledge_seconds", Help: "From when WAL had arrived from the server until the log had acknowledged it.",
		ConstLabels: prometheus.Labels{"log": log}, Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16)})}
}

// Status is how the following is.
type Status struct {
	Log         string        `json:"log"`
	Connected   bool          `json:"connected"`
	Connections uint64        `json:"connections"` // made since the agent began
	Server      wal.Position  `json:"server_position"`
	Received    wal.Position  `json:"received_position"`
	Durable     wal.Position  `json:"acknowledged_position"`
	LagBytes    uint64        `json:"lag_bytes"`  // from Durable to Server
	Waiting     time.Duration `json:"waiting_ns"` // how long the oldest append has waited for its acknowledgement
	Conditions  []Finding     `json:"conditions"`
}

// Finding is a condition that holds, and what there is to say of it.
type Finding struct {
	Condition Condition `json:"condition"`
	Detail    string    `json:"detail"`
}

// Status returns how the following is now.
func (m *Monitor) Status() Status {
	s := Status{Log: m.log, Connected: m.connected.Load(), Connections: m.count.Load(), Received: wal.Position(m.received.Load()), Durable: wal.Position(m.durable.Load()), Conditions: []Finding{}}
	s.Server = max(wal.Position(m.server.Load()), s.Received)
	if s.Server > s.Durable {
		s.LagBytes = uint64(s.Server - s.Durable)
	}
	if since := m.oldest.Load(); since != 0 {
		s.Waiting = max(0, time.Since(time.Unix(0, since)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range slices.Sorted(maps.Keys(m.conditions)) {
		s.Conditions = append(s.Conditions, Finding{c, m.conditions[c]})
	}
	return s
}

// Ended takes over that an attempt to follow the server, or to open the log for it, ended with an error.
func (m *Monitor) Ended(err error) {
	m.connected.Store(false)
	if err != nil {
		m.set(ConditionOf(err), err.Error())
	}
}

// set notes that a condition holds; "" that it does not.
func (m *Monitor) set(c Condition, detail string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if detail == "" {
		delete(m.conditions, c)
		return
	}
	m.conditions[c] = detail
}

// detail returns what was said of a condition that holds; "" for one that doesn't.
func (m *Monitor) detail(c Condition) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conditions[c]
}

// streaming notes that the server streams: what kept it from that is over.
func (m *Monitor) streaming() {
	m.mu.Lock()
	for c := range m.conditions {
		if c != ConditionUnprotected && c != ConditionApply {
			delete(m.conditions, c)
		}
	}
	m.mu.Unlock()
	m.count.Add(1)
	m.connected.Store(true)
}

// acknowledged notes that an append was: none waits as long as the next is not known.
func (m *Monitor) acknowledged(s submitted) {
	m.latency.Observe(time.Since(s.at).Seconds())
	m.oldest.Store(0)
}

// waitsSince notes when the oldest append that has no outcome was begun; zero: there is none.
func (m *Monitor) waitsSince(at time.Time) {
	if at.IsZero() {
		m.oldest.Store(0)
		return
	}
	m.oldest.Store(at.UnixNano())
}

func (m *Monitor) description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("logcore_postgres_"+name, help, labels, prometheus.Labels{"log": m.log})
}

// Describe implements prometheus.Collector.
func (m *Monitor) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Monitor) Collect(ch chan<- prometheus.Metric) {
	s := m.Status()
	gauge := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(m.description(name, help), prometheus.GaugeValue, v)
	}
	gauge("connected", "1 while the server streams its WAL.", truth(s.Connected))
	gauge("acknowledged_position_bytes", "Position in the server's WAL up to which the log has acknowledged it.", float64(s.Durable))
	gauge("lag_bytes", "WAL that the server has written and the log has not acknowledged.", float64(s.LagBytes))
	gauge("waiting_seconds", "How long the oldest WAL that was sent to the log has waited for its acknowledgement; 0 when none waits.", s.Waiting.Seconds())
	ch <- prometheus.MustNewConstMetric(m.description("connections_total", "Connections to the server on which WAL was streamed: the first one and the reconnects."), prometheus.CounterValue, float64(s.Connections))
	holds := m.description("condition", "1 while a condition holds that keeps WAL from the log, or commits from being protected by it.", "condition")
	for _, c := range Conditions {
		found := slices.ContainsFunc(s.Conditions, func(f Finding) bool { return f.Condition == c })
		ch <- prometheus.MustNewConstMetric(holds, prometheus.GaugeValue, truth(found), string(c))
	}
	m.latency.Collect(ch)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
