package tiering

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/internal/alertstest"
)

// The alert rules ask for metrics that an archiver has, and point to chapters that there are.
func TestAlertsAskForMetricsThatAreThere(t *testing.T) {
	w := newWorld(t, 90)
	registry := prometheus.NewRegistry()
	w.change = func(o *Options) { o.Registerer = registry }
	a := w.start(nil)
	defer a.close()
	alertstest.Check(t, "..", "deploy/alerts/archive.rules.yml", registry, 4)
}
