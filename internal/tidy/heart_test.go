package tidy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHeartStaysSmall(t *testing.T) {
	bad, lines, err := Heart(root, load(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines of code, %d at most", lines, heartLinesMax)
	if lines < 3000 {
		t.Errorf("only %d lines: the rule does not find the heart", lines)
	}
	report(t, bad)
}

func TestHeartCountsCode(t *testing.T) {
	for text, want := range map[string]int{
		"package a\n": 1,
		"// Comment.\n\n/* one\n\ntwo */\npackage a // and more\n":      1,
		"package a\n\nvar x = `one\n\nthree`\n\n\tvar y = f(1,\n\t2)\n": 6,
	} {
		if got := codeLines([]byte(text)); got != want {
			t.Errorf("%q: %d lines, want %d", text, got, want)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "hotlog"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, lines := range map[string]int{"a.go": heartLinesMax, "a_test.go": 9000} { // and a package line
		text := "package hotlog\n" + strings.Repeat("var _ = 1 // nothing\n\n", lines)
		if err := os.WriteFile(filepath.Join(dir, "hotlog", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pkgs, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	bad, lines, err := Heart(dir, pkgs)
	if err != nil || len(bad) != 1 || lines != heartLinesMax+1 {
		t.Errorf("%q, %d lines, %v", bad, lines, err)
	}
}
