package roles

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore/internal/metrics"
	"github.com/logcore/logcore/tiering/bucket"
)

// newProcess returns what the parts of one process share.
func newProcess(log *slog.Logger, version string) *process {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &process{group: newGroup(log), log: log, registry: reg, corrupt: metrics.Corruptions(reg), version: version}
}

// bucketMetrics are those of every target that the process uses.
func (p *process) bucketMetrics() *bucket.Metrics {
	p.bucketsOnce.Do(func() { p.buckets = bucket.NewMetrics(p.registry) })
	return p.buckets
}

// total adds the children of a counter up.
func total(vec *prometheus.CounterVec) uint64 {
	collected := make(chan prometheus.Metric, 32)
	go func() {
		vec.Collect(collected)
		close(collected)
	}()
	var sum float64
	for m := range collected {
		var out dto.Metric
		if err := m.Write(&out); err == nil {
			sum += out.GetCounter().GetValue()
		}
	}
	return uint64(sum)
}

// role is a started process: what every role gives back to its command.
type role struct {
	*process
	addr    string
	metrics string
}

var _ Running = (*role)(nil)

// Addr is the gRPC address.
func (r *role) Addr() string { return r.addr }

// MetricsAddr is the HTTP address of /metrics and /healthz, empty when there is none.
func (r *role) MetricsAddr() string { return r.metrics }

// Failed yields what keeps the role from going on.
func (r *role) Failed() <-chan error { return r.process.group.failed }

// Stop stops every part in reverse build order.
func (r *role) Stop() error { return r.process.group.stop() }
