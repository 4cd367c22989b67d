//go:build postgres

package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// regressDir is PostgreSQL's src/test/regress, with pg_regress built; make test-postgres
// says where.
func regressDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LOGCORE_PG_REGRESS")
	if dir == "" {
		t.Fatal("LOGCORE_PG_REGRESS does not say where PostgreSQL's regression suite is: run make test-postgres")
	}
	return dir
}

// The WAL of PostgreSQL's own regression suite, under wal_consistency_checking=all: each
// line is pg_waldump's, and each block redone in Go is the server's.
func TestRegressionSuite(t *testing.T) {
	regress := regressDir(t)
	s := newServer(t, "wal_consistency_checking=all", "max_wal_size=40GB", "wal_keep_size=80GB", "wal_compression=lz4", "max_prepared_transactions=10", "shared_buffers=256MB")
	query(t, connect(t, s.connString()), "select pg_switch_wal()")
	query(t, connect(t, s.connString()), "checkpoint")
	out := filepath.Join(s.socket, "out")
	run(t, "/usr/bin/env", "mkdir", out)
	printed := run(t, "/usr/bin/env", "-C", regress, "./pg_regress", "--bindir="+binaries, "--inputdir=.", "--outputdir="+out, "--dlpath=.",
		"--schedule=./parallel_schedule", "--host="+s.socket, "--port="+strconv.Itoa(s.port), "--user=postgres")
	if !strings.Contains(printed, "tests passed") {
		t.Fatalf("%s", tail([]byte(printed)))
	}
	s.stop(t)
	wal := filepath.Join(s.data, "pg_wal")

	t.Run("waldump", func(t *testing.T) { compareDumps(t, wal) })
	t.Run("redo", func(t *testing.T) {
		b, err := command(t, t.Context(), "postgres", "verify-redo", wal, "-o", "json").Output()
		if err != nil {
			t.Errorf("verify-redo: %v", err)
		}
		type counts struct {
			Equal, Images, Unknown, Differ, Failed, Early uint64
			NotRedone                                     uint64 `json:"not_redone"`
			NoImage                                       uint64 `json:"no_image"`
		}
		var r struct {
			Kinds []struct {
				Manager, Operation string
				counts
			}
			Total       counts
			Records     uint64
			EarlyLeft   int `json:"early_left"`
			Differences []string
		}
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d records: %+v", r.Records, r.Total)
		if path := os.Getenv("LOGCORE_REDO_TABLE"); path != "" {
			var table strings.Builder
			for _, k := range r.Kinds {
				fmt.Fprintf(&table, "| %s | %s | %d | %d | %d | %d | %d | %d |\n", k.Manager, k.Operation, k.Equal, k.Images, k.NotRedone, k.Unknown, k.NoImage, k.Differ+k.Failed)
			}
			fmt.Fprintf(&table, "| all | %d records | %d | %d | %d | %d | %d | %d |\n", r.Records, r.Total.Equal, r.Total.Images, r.Total.NotRedone, r.Total.Unknown, r.Total.NoImage, r.Total.Differ+r.Total.Failed)
			if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
				t.Error(err)
			}
		}
		if r.Total.Differ+r.Total.Failed > 0 || r.Total.Equal < 1_000_000 || r.EarlyLeft > 0 {
			t.Errorf("want no difference in a million blocks; %d bits of visibility maps left; %v", r.EarlyLeft, r.Differences)
		}
	})
}

// compareDumps compares what this project and pg_waldump print of a directory, line by line.
func compareDumps(t *testing.T, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var segments []string
	for _, e := range entries {
		if len(e.Name()) == 24 {
			segments = append(segments, e.Name())
		}
	}
	slices.Sort(segments)
	theirs := exec.CommandContext(t.Context(), binaries+"pg_waldump", "-p", dir, segments[0], segments[len(segments)-1])
	ours := command(t, t.Context(), "postgres", "waldump", dir)
	var readers [2]*bufio.Scanner
	for i, cmd := range []*exec.Cmd{theirs, ours} {
		cmd.Env = append(os.Environ(), "TZ=UTC")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer io.Copy(io.Discard, out)
		readers[i] = bufio.NewScanner(out)
		readers[i].Buffer(nil, 64<<20)
	}
	lines, different := 0, 0
	for readers[0].Scan() {
		if !readers[1].Scan() {
			t.Fatalf("%d lines, pg_waldump has more", lines)
		}
		lines++
		if a, b := readers[0].Text(), readers[1].Text(); a != b {
			if different++; different < 5 {
				t.Errorf("line %d:\nwant %s\n got %s", lines, a, b)
			}
		}
	}
	if readers[1].Scan() {
		t.Errorf("more than pg_waldump's %d lines", lines)
	}
	t.Logf("%d lines, %d different", lines, different)
	if lines < 1_000_000 {
		t.Errorf("%d lines, want a million", lines)
	}
}
