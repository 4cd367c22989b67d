// Package metrics holds the few metrics that several components share.
package metrics

import "github.com/prometheus/client_golang/prometheus"

// Components are the values of the component label of logcore_corruption_total.
var Components = []string{"hotlog", "catalog", "fragment", "manifest", "pageserver"}

// Corruptions returns logcore_corruption_total, registered with reg (nil registers
// nothing), with a child at 0 for every component: without it the first event would
// be invisible to increase(). A component counts with one of its children.
func Corruptions(reg prometheus.Registerer) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "logcore_corruption_total",
		Help: "Checksum failures found below the durable LSN, by the component that found them.",
	}, []string{"component"})
	for _, c := range Components {
		vec.WithLabelValues(c)
	}
	if reg != nil {
		reg.MustRegister(vec)
	}
	return vec
}
