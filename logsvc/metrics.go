package logsvc

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/replication"
)

// metrics are the service's own.
type metrics struct {
	registerer    prometheus.Registerer // nil: not registered
	all           []prometheus.Collector
	commitLatency prometheus.Histogram
	entries       prometheus.Counter
	bytes         prometheus.Counter
	// decoded and sent count what readers cost and what they get.
	decoded, sent prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, g *replication.Group, b *budget) (*metrics, error) {
	m := &metrics{
		registerer: reg,
		commitLatency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "logcore_commit_latency_seconds",
			Help: "From the arrival of a message of appends to its acknowledgement; a message counts once, however many entries it has.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18)}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_appended_entries_total", Help: "Entries acknowledged to writers."}),
		bytes:   prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_appended_bytes_total", Help: "Bytes of the entries acknowledged to writers."}),
		decoded: prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_read_entries_decoded_total", Help: "Entries of the shard that were looked at for readers; followers at the tail share them."}),
		sent:    prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_read_entries_sent_total", Help: "Entries sent to readers."}),
	}
	shard := prometheus.Labels{"shard": fmt.Sprint(g.Shard())}
	m.all = []prometheus.Collector{m.commitLatency, newMilliseconds(m.commitLatency, "commit_latency_ms", "The same as logcore_commit_latency_seconds, in milliseconds."), m.entries, m.bytes, m.decoded, m.sent,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "logcore_committed_lsn", Help: "LSN of the last committed entry.", ConstLabels: shard},
			func() float64 { return float64(g.Committed()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "logcore_queued_requests", Help: "Requests that wait for the shard's loop.", ConstLabels: shard},
			func() float64 { return float64(g.Status().Queued) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "logcore_staged_bytes", Help: "Bytes of entries received and not yet durable.", ConstLabels: shard},
			func() float64 { return float64(b.staged.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "logcore_staging_waiters", Help: "Messages that wait for room among the staged bytes.", ConstLabels: shard},
			func() float64 { return float64(b.waiting.Load()) }),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// acknowledged counts a message whose entries are durable.
func (m *metrics) acknowledged(begun time.Time, entries, bytes int) {
	m.commitLatency.Observe(time.Since(begun).Seconds())
	m.entries.Add(float64(entries))
	m.bytes.Add(float64(bytes))
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func sinceMilliseconds(t time.Time) int64 { return time.Since(t).Milliseconds() }
