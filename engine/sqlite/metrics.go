package sqlite

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count for all Databases of one Registerer.
type metrics struct {
	commits    prometheus.Histogram
	failures   prometheus.Counter
	hits       prometheus.Counter
	fetches    prometheus.Counter
	fetched    prometheus.Counter
	cacheDrops prometheus.Counter
	pauses     prometheus.Counter
	paused     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := metrics{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "logcore_sqlite_commit_seconds",
			Help:    "Time from the end of a transaction to the acknowledgement of its append.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		failures:   counter("logcore_sqlite_commit_failures_total", "Appends of transactions that were refused or of unknown outcome."),
		hits:       counter("logcore_sqlite_cache_hits_total", "Pages read from the local cache."),
		fetches:    counter("logcore_sqlite_fetches_total", "Calls to the page server for pages."),
		fetched:    counter("logcore_sqlite_fetched_pages_total", "Pages asked for in those calls."),
		cacheDrops: counter("logcore_sqlite_cache_drops_total", "Times that a new version of the file made the local cache useless."),
	}
	m.pauses = counter("logcore_sqlite_pauses_total", "Transactions that waited before they wrote because page servers were behind.")
	m.paused = counter("logcore_sqlite_paused_seconds_total", "How long they waited.")
	if reg != nil {
		register(reg, &m.commits)
		for _, c := range []*prometheus.Counter{&m.failures, &m.hits, &m.fetches, &m.fetched, &m.cacheDrops, &m.pauses, &m.paused} {
			register(reg, c)
		}
	}
	return m
}

// register makes the Databases of a process share one set of metrics.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) {
	err := reg.Register(*c)
	var already prometheus.AlreadyRegisteredError
	switch {
	case errors.As(err, &already):
		*c = already.ExistingCollector.(C)
	case err != nil:
		panic(err) // a bug: two metrics of one name
	}
}
