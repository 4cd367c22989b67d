package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/engine/postgres/receiver"
	"github.com/logcore/logcore/internal/alertstest"
)

// The alert rules ask for metrics that attach and run have, and point to chapters that there are.
func TestPostgresAlertsAskForMetricsThatAreThere(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(append(newNodeMetrics("l").all(), receiver.NewMonitor("l"))...)
	alertstest.Check(t, "../..", postgresRules, registry, 11)
}

const postgresRules = "deploy/alerts/postgres.rules.yml"

// The conditions that the alert rules tell apart are ones that there are: a name that is none would never match, or always.
func TestPostgresAlertsNameConditionsThatThereAre(t *testing.T) {
	rules, err := os.ReadFile("../../" + postgresRules)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, label := range regexp.MustCompile(`condition[!=~]+"([^"]*)"`).FindAllStringSubmatch(string(rules), -1) {
		for name := range strings.SplitSeq(label[1], "|") {
			named++
			if !slices.Contains(receiver.Conditions, receiver.Condition(name)) {
				t.Errorf("%s: there is no condition %s", label[0], name)
			}
		}
	}
	if named < 4 {
		t.Errorf("%d conditions in the rules, want 4 at least: were they read?", named)
	}
}
