package alertstest

import (
	"errors"
	"fmt"
	"testing"
)

// TestCheckFinds: each thing that can be wrong with an alert is found.
func TestCheckFinds(t *testing.T) {
	const good = `groups:
  - name: x
    rules:
      - alert: A
        expr: rate(logcore_a_total[5m]) > logcore_b_bucket
        annotations:
          runbook: docs/r.md#whats-up
      - alert: B
        expr: logcore_b{why!~"logcore_gone|other"} > 0
        annotations:
          runbook: docs/r.md#two-words
`
	there := map[string]bool{"logcore_a_total": true, "logcore_b": true}
	read := func(path string) (string, error) {
		if path != "docs/r.md" {
			return "", errors.New("no such file: " + path)
		}
		return "# R\n\n## Two, words\n\n## What's-up\n", nil
	}
	all := alerts(good)
	if len(all) != 2 {
		t.Fatalf("%d alerts", len(all))
	}
	if problems, n := check(all[1], there, read); len(problems) > 0 || n != 1 {
		t.Errorf("a good one: %v, %d metrics", problems, n)
	}
	for name, bad := range map[string]string{
		"no such metric":  "- alert: A\n expr: logcore_c > 0\n runbook: docs/r.md#two-words\n",
		"no metric":       "- alert: A\n expr: up == 0\n runbook: docs/r.md#two-words\n",
		"no runbook":      "- alert: A\n expr: logcore_b > 0\n",
		"no such runbook": "- alert: A\n expr: logcore_b > 0\n runbook: docs/s.md#two-words\n",
		"no such chapter": "- alert: A\n expr: logcore_b > 0\n runbook: docs/r.md#three-words\n",
	} {
		if problems, _ := check(bad, there, read); fmt.Sprint(len(problems)) != "1" {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
