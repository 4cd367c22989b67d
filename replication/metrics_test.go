package replication

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetrics: a group shows its state while it is open, and nothing afterwards.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	opts := testOptions(t.TempDir())
	opts.Log.Registerer = registry
	for range 2 { // opened again it registers again
		g := openGroup(t, opts)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			m := f.Metric[0]
			values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		for name, want := range map[string]float64{"logcore_replication_leading": 1, "logcore_replication_leader_known": 1, "logcore_replication_term": float64(g.Term()),
			"logcore_replication_voters": 1, "logcore_replication_learners": 0, "logcore_replication_lag_entries": 0, "logcore_replication_silent_voters": 0} {
			if got, ok := values[name]; !ok || got != want {
				t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
			}
		}
		g.Close()
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics of a closed group, %v", len(families), err)
	}
}
