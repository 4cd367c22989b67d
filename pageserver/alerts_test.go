package pageserver_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/pageserver"
)

// The alert rules ask for metrics that a page server has, and point to chapters that there are.
func TestAlertsAskForWhatIsThere(t *testing.T) {
	rules, err := os.ReadFile("../deploy/alerts/pageserver.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 5)
	r.opts.Archive = enginetest.NewArchive(r.source)
	s := r.start()
	statusOf(t, s.Server, "db", pageserver.StateFollowing)
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{"logcore_corruption_total": true} // the process's
	for _, f := range families {
		there[f.GetName()] = true
	}
	asked := 0
	for _, expr := range regexp.MustCompile(`(?m)^\s*expr: (.*)$`).FindAllStringSubmatch(string(rules), -1) {
		for _, name := range regexp.MustCompile(`logcore_\w+`).FindAllString(expr[1], -1) {
			asked++
			if !there[name] {
				t.Errorf("%s: there is no metric %s", expr[1], name)
			}
		}
	}
	if asked < 8 {
		t.Errorf("%d metrics in the rules", asked)
	}
	runbook, err := os.ReadFile("../docs/runbooks/pageserver.md")
	if err != nil {
		t.Fatal(err)
	}
	chapters := map[string]bool{}
	for _, title := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(string(runbook), -1) {
		chapters[strings.ReplaceAll(strings.ToLower(strings.NewReplacer(",", "", "'", "").Replace(title[1])), " ", "-")] = true
	}
	for _, link := range regexp.MustCompile(`runbook: docs/runbooks/pageserver.md#(\S+)`).FindAllStringSubmatch(string(rules), -1) {
		if !chapters[link[1]] {
			t.Errorf("no chapter %s in the runbook: %v", link[1], chapters)
		}
	}
}
