package tidy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func load(t *testing.T) []Package {
	t.Helper()
	pkgs, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("found only %d packages below %s: the rules would check nothing", len(pkgs), root)
	}
	return pkgs
}

func report(t *testing.T, bad []string) {
	t.Helper()
	for _, b := range bad {
		t.Error(b)
	}
}

func TestImportsPointDown(t *testing.T)     { report(t, Direction(load(t))) }
func TestPackagesSayWhatFor(t *testing.T)   { report(t, PackageComments(load(t))) }
func TestFormatsAreDocumented(t *testing.T) { report(t, Formats(root, load(t))) }

func TestSourcesAreFinished(t *testing.T) {
	bad, err := Sources(root, load(t))
	if err != nil {
		t.Fatal(err)
	}
	report(t, bad)
}

func TestLinksResolve(t *testing.T) {
	bad, err := Links(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, bad)
}

// The rules must be able to fail: each is shown a tree that breaks it.
func TestRulesFindViolations(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("hotlog/format.go", "package hotlog\n\nimport _ \""+Module+"/logsvc\"\nimport _ \""+Module+"/tiering\"\n\n// TO"+"DO\n")
	write("nowhere/a.go", "// Package nowhere is in no layer.\npackage nowhere\n")
	write("README.md", "[gone](gone.md) [no](README.md#heading) [yes](README.md#real-one) `[code](x.md)`\n\n# Real one\n")

	pkgs, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	links, err := Links(dir)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := Sources(dir, pkgs)
	if err != nil {
		t.Fatal(err)
	}
	for rule, c := range map[string]struct {
		got  []string
		want int
		word string
	}{
		"direction": {Direction(pkgs), 3, "point down"},
		"comments":  {PackageComments(pkgs), 1, "hotlog"},
		"formats":   {Formats(dir, pkgs), 3, "fuzz"},
		"links":     {links, 2, "gone.md"},
		"sources":   {sources, 1, "hotlog/format.go:6"},
	} {
		if len(c.got) != c.want || !slices.ContainsFunc(c.got, func(s string) bool { return strings.Contains(s, c.word) }) {
			t.Errorf("%s: got %q, want %d findings, one with %q", rule, c.got, c.want, c.word)
		}
	}
}
