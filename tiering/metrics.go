package tiering

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of an archiver. Gauges are computed when scraped.
type metrics struct {
	rpo     prometheus.Histogram
	place   prometheus.Histogram
	objects *prometheus.CounterVec
	raw     prometheus.Counter
	stored  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, a *Archiver) (*metrics, error) {
	labels := prometheus.Labels{"shard": fmt.Sprint(uint32(a.o.Shard))}
	seconds := []float64{0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300}
	m := &metrics{
		rpo: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "logcore_archive_rpo_seconds", ConstLabels: labels, Buckets: seconds,
			Help: "Age of the oldest acknowledged entry of a round at the moment the archive covered it."}),
		place: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "logcore_archive_place_seconds", ConstLabels: labels, Buckets: seconds,
			Help: "Time to put the fragments of an object on the targets and to read them back."}),
		objects: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "logcore_archive_objects_total", ConstLabels: labels,
			Help: "Objects archived, by kind."}, []string{"kind"}),
		raw: prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_archive_raw_bytes_total", ConstLabels: labels,
			Help: "Bytes of entry frames archived."}),
		stored: prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_archive_stored_bytes_total", ConstLabels: labels,
			Help: "Bytes of fragments put on targets."}),
	}
	m.objects.WithLabelValues(KindTail.String())
	m.objects.WithLabelValues(KindSealed.String())
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f)
	}
	var errs []error
	for _, c := range []prometheus.Collector{newReadCollector(a.Reader, labels), m.rpo, m.place, m.objects, m.raw, m.stored,
		gauge("logcore_archive_lag_seconds", "Age of the oldest acknowledged entry that the archive does not cover yet; 0 when there is none.",
			func() float64 { return a.lag().Seconds() }),
		gauge("logcore_archive_memory_bytes", "Bytes in the buffers of objects that are being made; never more than half of the limit.",
			func() float64 { held, _ := a.memory.now(); return float64(held) }),
		gauge("logcore_archive_covered_lsn", "Everything up to this LSN is archived.", func() float64 { return float64(a.Covered()) }),
		gauge("logcore_archive_degraded_objects", "Live objects with a fragment that is not placed.", func() float64 { return float64(a.Status().Degraded) }),
		gauge("logcore_archive_targets_unhealthy", "Targets whose last call failed.", func() float64 { return float64(a.unhealthy()) }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// placed counts an object whose fragments are placed.
func (m *metrics) placed(o *object, took time.Duration) {
	m.place.Observe(took.Seconds())
	m.objects.WithLabelValues(o.kind().String()).Inc()
	m.raw.Add(float64(o.rawBytes))
	m.stored.Add(float64(o.FragmentBytes() * int64(o.placed())))
}

func (a *Archiver) unhealthy() (n int) {
	for _, r := range a.all() {
		if ok, _ := r.health(); !ok {
			n++
		}
	}
	return n
}
