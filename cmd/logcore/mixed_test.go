package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
)

// Buckets that lie under each other's names are sound: every command says which is which
// and touches nothing, a repair least of all.
func TestMixedUpTargets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	d, err := roles.OpenDevDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	swap := func() {
		t.Helper()
		place := func(name string) string { return filepath.Join(dir, "targets", name) }
		for _, m := range [][2]string{{"a1", "x"}, {"a2", "a1"}, {"x", "a2"}} {
			if err := os.Rename(place(m[0]), place(m[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap()
	says := []string{"targets/a1 is target a2", "targets/a2 is target a1", "nothing is damaged"}
	archive := []string{"--key", d.Key, "--targets", strings.Join(d.Targets, ",")}
	cli(t, "verify", "--dir", dir).want(t, exit.Usage, says...)
	cli(t, append([]string{"verify", "--repair"}, archive...)...).want(t, exit.Usage, says...)
	cli(t, append([]string{"restore", "--to", filepath.Join(t.TempDir(), "new")}, archive...)...).want(t, exit.Usage, says...)
	swap()
	cli(t, "verify", "--dir", dir).want(t, exit.OK)
}
