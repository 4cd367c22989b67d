// Package alertstest holds alert rules against the metrics that there are and against the
// runbooks: the tests of whoever has the metrics use it.
package alertstest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	alertLine   = regexp.MustCompile(`(?m)^\s*- alert: (\S+)$`)
	exprLine    = regexp.MustCompile(`(?m)^\s*expr: (.*)$`)
	metricName  = regexp.MustCompile(`logcore_\w+`)
	quoted      = regexp.MustCompile(`"[^"]*"`)
	runbookLine = regexp.MustCompile(`(?m)^\s*runbook: (\S+)#(\S+)$`)
	chapterLine = regexp.MustCompile(`(?m)^## (.*)$`)
)

// Check fails the test unless every alert of a file of rules asks for metrics that are
// gathered, or named in process, and points to a chapter of a runbook that there is. root is
// the repository's, as the test sees it; there are atLeast metrics in the rules, or the check
// looked at nothing.
func Check(t *testing.T, root, rules string, gather prometheus.Gatherer, atLeast int, process ...string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, rules))
	if err != nil {
		t.Fatal(err)
	}
	families, err := gather.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, name := range process {
		there[name] = true
	}
	for _, f := range families {
		there[f.GetName()] = true
	}
	asked := 0
	for _, one := range alerts(string(b)) {
		problems, metrics := check(one, there, func(path string) (string, error) {
			b, err := os.ReadFile(filepath.Join(root, path))
			return string(b), err
		})
		for _, p := range problems {
			t.Errorf("%s: %s", rules, p)
		}
		asked += metrics
	}
	if asked < atLeast {
		t.Errorf("%s: %d metrics in the rules, want %d at least: were they read?", rules, asked, atLeast)
	}
}

// alerts cuts a file of rules into its alerts.
func alerts(rules string) (out []string) {
	at := alertLine.FindAllStringIndex(rules, -1)
	for i := range at {
		end := len(rules)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		out = append(out, rules[at[i][0]:end])
	}
	return out
}

// check returns what is wrong with one alert, and how many metrics it asks for.
func check(alert string, there map[string]bool, read func(path string) (string, error)) (problems []string, metrics int) {
	name := alertLine.FindStringSubmatch(alert)[1]
	for _, expr := range exprLine.FindAllStringSubmatch(alert, -1) {
		for _, metric := range metricName.FindAllString(quoted.ReplaceAllString(expr[1], ""), -1) { // a label's value is no metric
			metrics++
			if !there[metric] && !there[strings.TrimSuffix(metric, "_bucket")] {
				problems = append(problems, name+" asks for "+metric+", which there is not")
			}
		}
	}
	if metrics == 0 {
		problems = append(problems, name+" asks for no metric")
	}
	link := runbookLine.FindStringSubmatch(alert)
	if link == nil {
		return append(problems, name+" has no runbook"), metrics
	}
	runbook, err := read(link[1])
	if err != nil {
		return append(problems, name+": "+err.Error()), metrics
	}
	for _, title := range chapterLine.FindAllStringSubmatch(runbook, -1) {
		if anchor(title[1]) == link[2] {
			return problems, metrics
		}
	}
	return append(problems, name+": no chapter "+link[2]+" in "+link[1]), metrics
}

// anchor is what a link to a chapter ends with.
func anchor(title string) string {
	return strings.ReplaceAll(strings.ToLower(strings.NewReplacer(",", "", "'", "", ":", "").Replace(title)), " ", "-")
}
