package logsvc

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// milliseconds shows a histogram of seconds again, under another name and in milliseconds:
// buckets and sum times a thousand. It is the same one, converted when it is asked for, so the two never
// differ. Prometheus wants base units; dashboards that were made for milliseconds want this.
type milliseconds struct {
	seconds prometheus.Histogram
	desc    *prometheus.Desc
}

func newMilliseconds(seconds prometheus.Histogram, name, help string) *milliseconds {
	return &milliseconds{seconds, prometheus.NewDesc(name, help, nil, nil)}
}

// Describe implements prometheus.Collector.
func (m *milliseconds) Describe(c chan<- *prometheus.Desc) { c <- m.desc }

// Collect implements prometheus.Collector.
func (m *milliseconds) Collect(c chan<- prometheus.Metric) {
	var now dto.Metric
	if err := m.seconds.Write(&now); err != nil {
		c <- prometheus.NewInvalidMetric(m.desc, err)
		return
	}
	h := now.GetHistogram()
	buckets := make(map[float64]uint64, len(h.GetBucket()))
	for _, b := range h.GetBucket() {
		buckets[b.GetUpperBound()*1000] = b.GetCumulativeCount()
	}
	c <- prometheus.MustNewConstHistogram(m.desc, h.GetSampleCount(), h.GetSampleSum()*1000, buckets)
}
