package pageserver

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
)

// end is where the source said a log ends.
type end struct {
	last     logcore.LSN
	lastTime logcore.HLC
	bytes    uint64
	known    time.Time // since when anything is known of the log
}

// noteEnds takes over where logs end. What the archive says never takes back what the log
// service said.
func (s *Server) noteEnds(infos []LogInfo) {
	for i := range infos {
		info := &infos[i]
		l := s.registry.withID(info.ID)
		if l == nil || l.info().Incarnation != info.Incarnation {
			continue
		}
		l.mu.Lock()
		e := &l.end
		if e.known.IsZero() {
			e.known = time.Now()
		}
		if info.Last >= e.last {
			e.last, e.lastTime, e.bytes = info.Last, info.LastTime, info.Bytes
		}
		l.mu.Unlock()
	}
}

// Lag is how far the ingest of a log is behind its end, as the source said it last.
type Lag struct {
	// Last is the log's last entry.
	Last logcore.LSN
	// Bytes of payloads are missing, about.
	Bytes uint64
	// Time lies between the last entry and the last one ingested; of a log of which nothing is
	// ingested it is how long it has been known.
	Time time.Duration
}

// lag returns how far a log is behind. have is how many bytes of it are ingested.
func (l *logState) lag(have uint64) Lag {
	l.mu.Lock()
	v, e := l.state, l.end
	l.mu.Unlock()
	out := Lag{Last: e.last}
	if e.last <= max(v.ingested, v.branchLSN) {
		return out
	}
	out.Bytes = e.bytes - min(have, e.bytes)
	if out.Time = time.Since(e.known); v.entry != 0 {
		out.Time = e.lastTime.Wall().Sub(v.entryTime.Wall())
	}
	out.Time = max(out.Time, 0)
	return out
}

// lagLogsMax bounds the logs with metrics of their own: those that are furthest behind.
const lagLogsMax = 256

// logMetrics are metrics with a log's name as their label. Branches at rest have none, and no more
// than lagLogsMax logs do.
type logMetrics struct {
	s *Server

	lagBytes, lagSeconds, quarantined, maxBytes, maxSeconds *prometheus.Desc
}

func newLogMetrics(s *Server) *logMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("logcore_pageserver_"+name, help, labels, nil)
	}
	return &logMetrics{s: s,
		lagBytes:    desc("log_lag_bytes", "Bytes of entries of a log that are not ingested yet; of the logs furthest behind.", "log"),
		lagSeconds:  desc("log_lag_seconds", "Time between a log's last entry and the last one ingested; of the logs furthest behind.", "log"),
		quarantined: desc("log_quarantined", "1 for a log whose ingest stopped before an entry that can't be ingested.", "log"),
		maxBytes:    desc("lag_bytes", "Bytes of entries that are not ingested yet, of the log of which most are missing."),
		maxSeconds:  desc("lag_seconds", "Time between the last entry of a log and the last one ingested, of the log that is furthest behind."),
	}
}

// Describe implements prometheus.Collector.
func (m *logMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.lagBytes, m.lagSeconds, m.quarantined, m.maxBytes, m.maxSeconds} {
		ch <- d
	}
}

type namedLag struct {
	log     string
	lag     Lag
	stopped bool
}

// Collect implements prometheus.Collector.
func (m *logMetrics) Collect(ch chan<- prometheus.Metric) {
	var all []namedLag
	var most Lag
	for _, l := range m.s.registry.all() {
		if rests, _ := l.settled(want{}); rests {
			continue
		}
		have, err := m.s.ingestedBytes(l)
		if err != nil {
			continue // the store is being closed, or built again
		}
		l.mu.Lock()
		one := namedLag{log: l.state.name, stopped: l.stopped != nil}
		l.mu.Unlock()
		one.lag = l.lag(have)
		most.Bytes, most.Time = max(most.Bytes, one.lag.Bytes), max(most.Time, one.lag.Time)
		all = append(all, one)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.maxBytes, float64(most.Bytes))
	gauge(m.maxSeconds, most.Time.Seconds())
	slices.SortFunc(all, func(a, b namedLag) int {
		if a.stopped != b.stopped {
			return map[bool]int{true: -1, false: 1}[a.stopped]
		}
		return cmp.Or(cmp.Compare(b.lag.Bytes, a.lag.Bytes), cmp.Compare(a.log, b.log))
	})
	for _, one := range all[:min(len(all), lagLogsMax)] {
		gauge(m.lagBytes, float64(one.lag.Bytes), one.log)
		gauge(m.lagSeconds, one.lag.Time.Seconds(), one.log)
		if one.stopped {
			gauge(m.quarantined, 1, one.log)
		}
	}
}
