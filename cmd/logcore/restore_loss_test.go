package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/recovery"
)

// A restore that fails prints its report, with every range that is lost, for people and
// for programs; and it advises no --lsn when there is none to be had.
func TestRestoreReportsLosses(t *testing.T) {
	dir, to := filepath.Join(t.TempDir(), "lc"), filepath.Join(t.TempDir(), "new")
	smallDatabase(t, dir)
	d, err := roles.OpenDevDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"restore", "--key", d.Key, "--to", to, "--targets", strings.Join([]string{d.Targets[0], d.Targets[2], d.Targets[4]}, ",")}
	r := cli(t, args...)
	r.want(t, exit.Integrity, "restored     nothing", "lost         LSN 1 to ")
	if strings.Contains(r.out+r.err, "--lsn") {
		t.Errorf("it advises --lsn, and nothing can be had:\n%s%s", r.out, r.err)
	}
	r = cli(t, append(args, "-o", "json")...)
	r.want(t, exit.Integrity)
	var report recovery.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatalf("%v: %s", err, r.out)
	}
	if len(report.Lost) != 1 || report.Lost[0].First != 1 || report.Lost[0].Last != report.ArchivedLSN {
		t.Errorf("lost %+v, want everything up to LSN %d", report.Lost, report.ArchivedLSN)
	}
}

// The restored service appears only once its directory says where its archive is.
func TestRestoreSaysWhereTheArchiveIsFirst(t *testing.T) {
	dir, to := filepath.Join(t.TempDir(), "lc"), filepath.Join(t.TempDir(), "new")
	smallDatabase(t, dir)
	d, err := roles.OpenDevDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(to, config.DevFile)
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"restore", "--key", d.Key, "--to", to, "--targets", strings.Join(d.Targets, ",")}
	if r := cli(t, args...); r.code == exit.OK {
		t.Errorf("%s could not be written, and the restore succeeded:\n%s", inTheWay, r.out)
	}
	if _, err := os.Stat(filepath.Join(to, "logsvc")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a service that does not know its archive: %v", err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	cli(t, args...).want(t, exit.OK)
	p := startDev(t, to)
	cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT count(*) FROM t3").want(t, exit.OK, "2000")
	p.stop()
}
