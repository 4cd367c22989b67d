package tiering

import "github.com/prometheus/client_golang/prometheus"

// readCollector shows how reads go and whom the breakers let through. Everything is
// computed when scraped.
type readCollector struct {
	reader    func() *Reader
	requests  *prometheus.Desc
	hedges    *prometheus.Desc
	denied    *prometheus.Desc
	givenUp   *prometheus.Desc
	target    *prometheus.Desc
	provider  *prometheus.Desc
	hedgeWait *prometheus.Desc
}

var _ prometheus.Collector = (*readCollector)(nil)

// hedgeWaitBytes is the size of answer that logcore_archive_hedge_after_seconds is of.
const hedgeWaitBytes = 1 << 20

func newReadCollector(reader func() *Reader, labels prometheus.Labels) *readCollector {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, variable, labels)
	}
	return &readCollector{reader: reader,
		requests:  desc("logcore_archive_read_requests_total", "Fragments, and ranges of them, that reads asked targets for, hedges included."),
		hedges:    desc("logcore_archive_read_hedges_total", "Of those, the ones asked in addition because another was late."),
		denied:    desc("logcore_archive_read_hedges_denied_total", "Hedges that there was no budget for."),
		givenUp:   desc("logcore_archive_reads_given_up_total", "Calls of reads that were cut off as hopeless."),
		target:    desc("logcore_archive_target_breaker_state", "Circuit breaker of a target: 0 closed, 1 half-open (a probe is under way), 2 open.", "target"),
		provider:  desc("logcore_archive_provider_breaker_state", "Circuit breaker of a provider, open when all its targets fail: 0 closed, 1 half-open, 2 open.", "provider"),
		hedgeWait: desc("logcore_archive_hedge_after_seconds", "How long an answer of a mebibyte may take before another target is asked as well.", "provider"),
	}
}

// Describe implements prometheus.Collector.
func (c *readCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.requests, c.hedges, c.denied, c.givenUp, c.target, c.provider, c.hedgeWait} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *readCollector) Collect(out chan<- prometheus.Metric) {
	r := c.reader()
	s := r.Stats()
	count := func(d *prometheus.Desc, n int64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	count(c.requests, s.Requests)
	count(c.hedges, s.Hedges)
	count(c.denied, s.HedgesDenied)
	count(c.givenUp, s.GivenUp)
	seen := map[*provider]bool{}
	for _, t := range r.remotes {
		out <- prometheus.MustNewConstMetric(c.target, prometheus.GaugeValue, float64(t.ownState()), t.Name)
		if p := t.provider; !seen[p] {
			seen[p] = true
			after, _ := p.hedgeAfter(hedgeWaitBytes)
			out <- prometheus.MustNewConstMetric(c.provider, prometheus.GaugeValue, float64(p.state()), p.name)
			out <- prometheus.MustNewConstMetric(c.hedgeWait, prometheus.GaugeValue, after.Seconds(), p.name)
		}
	}
}
