package metrics_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/internal/metrics"
)

// A counter that appears with its first event is invisible to increase(), so every
// child must be there, at 0, from the start.
func TestEveryComponentIsThereAtZero(t *testing.T) {
	reg := prometheus.NewRegistry()
	vec := metrics.Corruptions(reg)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("gathered %d families, %v", len(families), err)
	}
	if got := len(families[0].GetMetric()); got != len(metrics.Components) {
		t.Errorf("%d children, want %d", got, len(metrics.Components))
	}
	vec.WithLabelValues("hotlog").Inc()
	families, _ = reg.Gather()
	sum := 0.0
	for _, m := range families[0].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	if sum != 1 {
		t.Errorf("after one event the children sum to %v", sum)
	}
}
