package hotlog

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one log; a shard label tells logs of one process apart.
type metrics struct {
	commitLatency, syncSeconds, batchEntries, batchBytes             prometheus.Histogram
	appendedBytes, writtenBytes, rolls, inlinePrepares, checkedBytes prometheus.Counter
	durableLSN, paceSync, paceCohort, pieces                         prometheus.Gauge
	begun                                                            [len(paceNames)]prometheus.Counter // by paceDecision

	all []prometheus.Collector
	reg prometheus.Registerer // nil: they are not registered
}

// Describe and Collect make them one collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
}

func newMetrics(o Options) (*metrics, error) {
	hist := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	latency := prometheus.ExponentialBuckets(50e-6, 1.6, 24) // 50 µs to 2.5 s
	m := &metrics{
		commitLatency:  hist("logcore_hotlog_commit_seconds", "Time from the first submission of a batch to its durability on this member.", latency),
		syncSeconds:    hist("logcore_hotlog_sync_seconds", "Duration of one device sync.", latency),
		batchEntries:   hist("logcore_hotlog_batch_entries", "Entries made durable by one sync.", prometheus.ExponentialBuckets(1, 2, 16)),
		batchBytes:     hist("logcore_hotlog_batch_bytes", "Bytes of entries made durable by one sync.", prometheus.ExponentialBuckets(256, 4, 10)),
		appendedBytes:  count("logcore_hotlog_appended_bytes_total", "Bytes of entries appended, framing included."),
		writtenBytes:   count("logcore_hotlog_written_bytes_total", "Bytes written for appends, marks and footers included."),
		rolls:          count("logcore_hotlog_segments_begun_total", "Segments begun."),
		inlinePrepares: count("logcore_hotlog_inline_prepares_total", "Segments that had to be allocated while a commit waited."),
		checkedBytes:   count("logcore_hotlog_checked_bytes_total", "Bytes of sealed segments read and verified in the background after an open."),
		durableLSN:     gauge("logcore_hotlog_durable_lsn", "Highest durable LSN."),
		paceSync:       gauge("logcore_hotlog_pace_sync_seconds", "What the group commit reckons one sync takes, a moving average."),
		paceCohort:     gauge("logcore_hotlog_pace_cohort_entries", "How many entries the group commit expects to wait at once."),
		pieces:         gauge("logcore_hotlog_write_pieces", "In how many pieces, under way at once, the newest batch was written."),
	}
	begun := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "logcore_hotlog_pace_commits_total",
		Help: "Commits, by why they began when they did: the batch was full, all expected entries were there, the log was idle, or no more came in time."}, []string{"reason"})
	for d := paceFull; int(d) < len(paceNames); d++ {
		m.begun[d] = begun.WithLabelValues(paceNames[d])
	}
	m.all = []prometheus.Collector{m.commitLatency, m.syncSeconds, m.batchEntries, m.batchBytes,
		m.appendedBytes, m.writtenBytes, m.rolls, m.inlinePrepares, m.checkedBytes, m.durableLSN, m.paceSync, m.paceCohort, m.pieces, begun}
	if o.Registerer == nil {
		return m, nil
	}
	m.reg = prometheus.WrapRegistererWith(prometheus.Labels{"shard": strconv.FormatUint(uint64(o.Shard), 10)}, o.Registerer)
	if err := m.reg.Register(m); err != nil {
		return nil, fmt.Errorf("hotlog: register metrics: %w", err)
	}
	return m, nil
}

// unregister makes room for the log's next opening in the same process.
func (m *metrics) unregister() {
	if m.reg != nil {
		m.reg.Unregister(m)
	}
}
