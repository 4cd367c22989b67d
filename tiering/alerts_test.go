package tiering

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The alert rules ask for metrics that an archiver has.
func TestAlertsAskForMetricsThatAreThere(t *testing.T) {
	rules, err := os.ReadFile("../deploy/alerts/archive.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 90)
	registry := prometheus.NewRegistry()
	w.change = func(o *Options) { o.Registerer = registry }
	a := w.start(nil)
	defer a.close()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range families {
		there[f.GetName()] = true
	}
	asked := 0
	for _, expr := range regexp.MustCompile(`(?m)^\s*expr: (.*)$`).FindAllStringSubmatch(string(rules), -1) {
		for _, name := range regexp.MustCompile(`logcore_\w+`).FindAllString(expr[1], -1) {
			asked++
			if !there[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s: there is no metric %s", expr[1], name)
			}
		}
	}
	if asked < 4 {
		t.Errorf("%d metrics in the rules", asked)
	}
}
