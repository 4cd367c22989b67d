package roles

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// shardRegistry gives what is registered the label of its shard, unless it has one.
type shardRegistry struct {
	prometheus.Registerer
	labels prometheus.Labels
}

func (r *shardRegistry) wrap(c prometheus.Collector) prometheus.Collector {
	descs := make(chan *prometheus.Desc, 64)
	go func() {
		c.Describe(descs)
		close(descs)
	}()
	labelled := false
	for d := range descs {
		labelled = labelled || strings.Contains(d.String(), `shard="`)
	}
	if labelled {
		return c
	}
	return prometheus.WrapCollectorWith(r.labels, c)
}

// Register implements prometheus.Registerer.
func (r *shardRegistry) Register(c prometheus.Collector) error {
	return r.Registerer.Register(r.wrap(c))
}

// MustRegister implements prometheus.Registerer.
func (r *shardRegistry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		r.Registerer.MustRegister(r.wrap(c))
	}
}

// Unregister implements prometheus.Registerer.
func (r *shardRegistry) Unregister(c prometheus.Collector) bool {
	return r.Registerer.Unregister(r.wrap(c))
}
