package checkpoint

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of one store's checkpoints.
type metrics struct {
	commits  prometheus.Counter
	failures prometheus.Counter
	fenced   prometheus.Counter
	stored   prometheus.Counter
	reused   prometheus.Counter
	removed  prometheus.Counter
	blocks   *prometheus.CounterVec
	fetched  prometheus.Counter
	last     prometheus.Gauge
	missing  prometheus.Gauge
	all      []prometheus.Collector
}

// NoteFailure counts a checkpoint that failed.
func (r *Repository) NoteFailure() { r.metrics.failures.Inc() }

// NoteFenced counts that a newer page server was found.
func (r *Repository) NoteFenced() { r.metrics.fenced.Inc() }

// Why a block was fetched; values of a metric label.
const (
	forRead     = "read"
	forPrefetch = "prefetch"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_checkpoint_" + name + "_total", Help: help})
	}
	m := &metrics{
		commits:  counter("commits", "Checkpoints of the page store committed."),
		failures: counter("failures", "Checkpoints of the page store that failed; they are tried again."),
		fenced:   counter("fenced", "Times a newer page server was found to hold the checkpoints."),
		stored:   counter("stored_bytes", "Bytes of tables stored for checkpoints."),
		reused:   counter("reused_bytes", "Bytes of tables that checkpoints named again instead of storing them."),
		removed:  counter("removed_objects", "Objects removed because no manifest of the grace period names them."),
		fetched:  counter("fetched_bytes", "Bytes of tables fetched from checkpoints."),
		blocks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "logcore_checkpoint_fetched_blocks_total",
			Help: "Blocks of tables fetched from checkpoints: because a reader waited, or ahead of one."}, []string{"why"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Name: "logcore_checkpoint_last_commit_timestamp_seconds",
			Help: "When the last checkpoint was committed by this page server, 0 before the first."}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{Name: "logcore_checkpoint_missing_bytes",
			Help: "Bytes of the page store that are in the checkpoint and not local yet."}),
	}
	for _, why := range []string{forRead, forPrefetch} {
		m.blocks.WithLabelValues(why)
	}
	m.all = []prometheus.Collector{m.commits, m.failures, m.fenced, m.stored, m.reused, m.removed, m.fetched, m.blocks, m.last, m.missing}
	if reg != nil {
		reg.MustRegister(m.all...)
	}
	return m
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.all {
		reg.Unregister(c)
	}
}
