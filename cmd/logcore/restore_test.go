package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
)

// Someone who restores from four targets and names no others learns what else the
// service needs to start, and that is enough to start it.
func TestRestoreFromFourNamedTargets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l c")
	smallDatabase(t, dir)
	d, err := roles.OpenDevDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "new one")
	restore := func(to string, keep ...string) result {
		var urls []string
		for _, url := range d.Targets {
			for _, name := range keep {
				if strings.Contains(url, "name="+name+"&") {
					urls = append(urls, url)
				}
			}
		}
		return cli(t, "restore", "--key", d.Key, "--to", to, "--targets", strings.Join(urls, ","))
	}
	// Three are too few for anything.
	restore(to, "a1", "a2", "c1").want(t, exit.Integrity, "nothing can be restored from these 3 targets", "b1, b2, c2")
	file := filepath.Join(to, config.DevFile)
	restore(to, "a1", "a2", "c1", "c2").want(t, exit.OK, "not named    b1, b2", "4 targets given, 6 needed to start: add b1 and b2", file, "logcore dev --dir '"+to+"'")
	cli(t, "dev", "--dir", to, "--listen", "127.0.0.1:0", "--metrics", "").want(t, exit.Usage, "4 targets: want 6")

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b1", "b2"} {
		text = append(text, "  - dir://"+filepath.Join(t.TempDir(), name)+"?name="+name+"&provider=b\n"...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b1", "b2"} {
		cli(t, "target", "replace", "--dir", to, name).want(t, exit.OK, name+" is replaced")
	}
	p := startDev(t, to)
	cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT count(*) FROM t3").want(t, exit.OK, "2000")
	p.stop()
}
