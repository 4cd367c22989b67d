package tidy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAlertsCanBeActedOn(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy", "alerts", "*.rules.yml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d rules files, %v: the rule would check nothing", len(files), err)
	}
	bad, err := Alerts(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, bad)
}

func TestAlertsFindViolations(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"docs/operating.md":    "[a](runbooks/a.md) [rules](../deploy/alerts/a.rules.yml)",
		"docs/runbooks/a.md":   "## What to do\n\n`Good`: do it.\n\n## Elsewhere\n",
		"docs/runbooks/b.md":   "## Nobody comes here\n",
		"README.md":            "",
		"deploy/alerts/b.yml":  "",
		"deploy/alerts/README": "",
		"deploy/alerts/a.rules.yml": `groups:
  - rules:
      - {alert: Good, expr: "1", labels: {severity: critical}, annotations: {summary: s, runbook: docs/runbooks/a.md#what-to-do}}
      - {alert: Bare, expr: "1"}
      - {alert: Astray, expr: "1", labels: {severity: warning}, annotations: {summary: s, runbook: docs/runbooks/a.md#nowhere}}
      - {alert: Unnamed, expr: "1", labels: {severity: warning}, annotations: {summary: s, runbook: docs/runbooks/a.md#elsewhere}}
`,
		"deploy/alerts/c.rules.yml":      "groups: []\n",
		"deploy/alerts/tests/a.test.yml": "Good Astray Unnamed BareNot",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Alerts(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a.rules.yml: Astray: runbook \"docs/runbooks/a.md#nowhere\": no such chapter no such heading",
		"a.rules.yml: Bare: no summary",
		"a.rules.yml: Bare: no test for promtool",
		"a.rules.yml: Bare: runbook \"\": no such chapter ",
		"a.rules.yml: Bare: severity is neither critical nor warning",
		"a.rules.yml: Unnamed: its runbook does not name it",
		"docs/operating.md does not lead to c.rules.yml",
		"docs/operating.md does not lead to the runbook b.md",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
