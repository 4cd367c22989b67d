package pageserver

import "github.com/prometheus/client_golang/prometheus"

// metrics are the page server's own; none has a label whose values grow with the data.
type metrics struct {
	entries    prometheus.Counter
	records    prometheus.Counter
	images     prometheus.Counter
	readImages prometheus.Counter
	pages      prometheus.Counter
	cacheHits  prometheus.Counter
	deltas     prometheus.Counter
	rebuilds   prometheus.Counter
	resets     prometheus.Counter
	carried    prometheus.Counter
	refetched  prometheus.Counter
	healed     prometheus.Counter
	violations *prometheus.CounterVec
	switches   *prometheus.CounterVec
	// archiveEntries counts what came straight from the archive.
	archiveEntries prometheus.Counter
	// Of collection.
	collectedKeys, collectedBytes, collectErrors prometheus.Counter
	latency                                      prometheus.Histogram

	all []prometheus.Collector
}

func newMetrics(s *Server) *metrics {
	reg := s.opts.Registerer
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_pageserver_" + name + "_total", Help: help})
	}
	m := &metrics{
		entries:        counter("ingested_entries", "Log entries ingested."),
		records:        counter("ingested_records", "Page records ingested."),
		images:         counter("chain_images", "Deltas stored as an image because the chain before them had become long."),
		readImages:     counter("background_images", "Images made in the background of pages whose reads had to apply many changes."),
		pages:          counter("pages_served", "Pages served."),
		cacheHits:      counter("page_cache_hits", "Pages or bases of pages found materialised in the cache."),
		deltas:         counter("deltas_applied", "Deltas applied to serve pages."),
		rebuilds:       counter("store_rebuilds", "Times the whole store was built again because it was damaged."),
		refetched:      counter("refetched_tables", "Damaged tables of the store that were fetched again from a checkpoint."),
		resets:         counter("incarnation_resets", "Logs whose state was thrown away because it belonged to another incarnation, or to another history of the same one."),
		carried:        counter("carried_logs", "Logs whose state was kept because the log service was restored to a point behind all of it."),
		healed:         counter("healed_pages", "Page versions rebuilt from the log because their checksum failed."),
		collectedKeys:  counter("collected_keys", "Page versions and other keys removed because no reader can see them any more."),
		collectedBytes: counter("collected_bytes", "Bytes of keys and values removed because no reader can see them any more."),
		collectErrors:  counter("collect_failures", "Times that histories could not be looked after; it is tried again."),
		archiveEntries: counter("archived_entries", "Log entries that came straight from the archive."),
		switches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "logcore_pageserver_source_switches_total",
			Help: "Times that a log began to be read from the log service, or from the archive."}, []string{"source"}),
		violations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "logcore_pageserver_source_violations_total",
			Help: "Batches of the log source that were refused, by what was wrong."}, []string{"kind"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "logcore_pageserver_get_pages_latency_seconds",
			Help: "Time to serve one GetPages request, waiting included.", Buckets: prometheus.ExponentialBuckets(16e-6, 2, 20)}),
	}
	for _, kind := range []string{violationGap, violationDuplicate, violationBackwards} {
		m.violations.WithLabelValues(kind)
	}
	for _, from := range []string{FromLogService, FromArchive} {
		m.switches.WithLabelValues(from)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "logcore_pageserver_" + name, Help: help}, value)
	}
	m.all = []prometheus.Collector{m.entries, m.records, m.images, m.readImages, m.pages, m.cacheHits, m.deltas, m.rebuilds, m.resets, m.carried, m.refetched, m.healed, m.collectedKeys, m.collectedBytes, m.collectErrors, m.violations, m.latency, m.archiveEntries, m.switches, newLogMetrics(s),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "logcore_pageserver_recached_pages_total", Help: "Pages whose blocks were brought back into the block cache after a compaction."},
			func() float64 { return float64(s.recacher.pages.Load()) }),
		gauge("stopped_logs", "Logs whose ingest stopped because of an error that trying again doesn't help.", s.stoppedLogs),
		gauge("disk_full", "1 while ingest waits because the disk has less room than is kept free.", s.diskFull),
		gauge("log_service_up", "1 while the log service answers.", func() float64 { return oneIf(s.sourceUp.Load()) })}
	if s.opts.Archive != nil {
		m.all = append(m.all, gauge("archive_up", "1 while the archive can be read; only of a page server that reads it itself.", func() float64 {
			_, err := s.archive.now()
			return oneIf(err == nil)
		}))
	}
	if reg != nil {
		reg.MustRegister(m.all...)
	}
	return m
}

func oneIf(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

// unregister takes the metrics back from where newMetrics put them.
func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.all {
		reg.Unregister(c)
	}
}
