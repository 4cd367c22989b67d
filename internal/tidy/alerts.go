package tidy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// rulesFile is a file of alert rules as Prometheus reads it.
type rulesFile struct {
	Groups []struct {
		Rules []struct {
			Alert               string
			Labels, Annotations map[string]string
		}
	}
}

// Alerts returns a line for each alert below root/deploy/alerts that nobody could act on, or that nothing tests: without a severity, a
// summary or a chapter of a runbook that names it, without a test for promtool. And one for each rules file and runbook that docs/operating.md does
// not lead to. promtool checks the rest (make alerts), and each part that its metrics are the ones that are asked for.
func Alerts(root string) ([]string, error) {
	var bad []string
	files, err := filepath.Glob(filepath.Join(root, "deploy", "alerts", "*.rules.yml"))
	if err != nil {
		return nil, err
	}
	entrance, err := os.ReadFile(filepath.Join(root, "docs", "operating.md"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var rules rulesFile
		if err := yaml.Unmarshal(text, &rules); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		base := filepath.Base(file)
		if !bytes.Contains(entrance, []byte("alerts/"+base)) {
			bad = append(bad, "docs/operating.md does not lead to "+base)
		}
		tests, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "tests", strings.TrimSuffix(base, ".rules.yml")+".test.yml")) // none tests nothing
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				for _, problem := range checkAlert(root, r.Alert, r.Labels, r.Annotations, tests) {
					bad = append(bad, fmt.Sprintf("%s: %s: %s", base, r.Alert, problem))
				}
			}
		}
	}
	runbooks, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "*.md"))
	if err != nil {
		return nil, err
	}
	for _, r := range runbooks {
		if !bytes.Contains(entrance, []byte("runbooks/"+filepath.Base(r))) {
			bad = append(bad, "docs/operating.md does not lead to the runbook "+filepath.Base(r))
		}
	}
	return bad, nil
}

func checkAlert(root, name string, labels, annotations map[string]string, tests []byte) (bad []string) {
	if s := labels["severity"]; s != "critical" && s != "warning" {
		bad = append(bad, "severity is neither critical nor warning")
	}
	if annotations["summary"] == "" {
		bad = append(bad, "no summary")
	}
	if !regexp.MustCompile(`\b` + name + `\b`).Match(tests) {
		bad = append(bad, "no test for promtool")
	}
	runbook := annotations["runbook"]
	file, anchor, _ := strings.Cut(runbook, "#")
	if problem := checkLink(root, filepath.Join(root, "README.md"), runbook); runbook == "" || anchor == "" || problem != "" {
		bad = append(bad, fmt.Sprintf("runbook %q: no such chapter %s", runbook, problem))
	} else if text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file))); err != nil || !bytes.Contains(text, []byte("`"+name+"`")) {
		bad = append(bad, "its runbook does not name it")
	}
	return bad
}
