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

	"github.com/logcore/logcore/engine/postgres/verify"
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

// representative are the tests of the suite that write nearly all kinds of records that the whole suite writes, with
// what they build on, in the order and beside each other as in the suite's own schedule. make test-postgres-suite runs them all.
const representative = `test: test_setup
test: char varchar text int2 int4 int8 float8 point
test: copy insert insert_conflict
test: create_function_c create_misc create_operator create_table create_type create_schema
test: create_index create_index_spgist create_view index_including index_including_gist
test: triggers inherit vacuum
test: select_into transactions portals btree_index hash_index update delete prepared_xacts
test: brin gin gist spgist matview tablesample generated
test: brin_bloom brin_multi
test: foreign_key cluster combocid
test: truncate alter_table sequence largeobject
`

// suiteCommand is pg_regress with a schedule. A test that fails ends it with an error.
func suiteCommand(t *testing.T, s *server, schedule string) []string {
	t.Helper()
	out := filepath.Join(s.socket, "out")
	run(t, "/usr/bin/env", "mkdir", out)
	return []string{"/usr/bin/env", "-C", regressDir(t), "./pg_regress", "--bindir=" + binaries, "--inputdir=.", "--outputdir=" + out, "--dlpath=.",
		"--schedule=" + schedule, "--host=" + s.socket, "--port=" + strconv.Itoa(s.port), "--user=postgres"}
}

// The WAL of a good part of PostgreSQL's own regression suite, under wal_consistency_checking=all: each
// line is pg_waldump's, and each block redone in Go is the server's.
func TestRegressionSuite(t *testing.T) {
	s := newServer(t, "wal_consistency_checking=all", "max_wal_size=40GB", "wal_keep_size=80GB", "wal_compression=lz4", "max_prepared_transactions=10", "shared_buffers=256MB")
	query(t, connect(t, s.connString()), "select pg_switch_wal()")
	query(t, connect(t, s.connString()), "checkpoint")
	schedule := filepath.Join(s.socket, "schedule")
	if err := os.WriteFile(schedule, []byte(representative), 0o644); err != nil {
		t.Fatal(err)
	}
	args := suiteCommand(t, s, schedule)
	if printed := run(t, args[0], args[1:]...); !strings.Contains(printed, "tests passed") {
		t.Fatalf("%s", tail([]byte(printed)))
	}
	s.stop(t)
	dir := filepath.Join(s.data, "pg_wal")

	t.Run("waldump", func(t *testing.T) {
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
		lines := compareDumps(t, []string{"-p", dir, segments[0], segments[len(segments)-1]}, []string{dir})
		t.Logf("%d lines", lines)
		if lines < 500_000 {
			t.Errorf("%d lines, want half a million", lines)
		}
	})
	t.Run("redo", func(t *testing.T) {
		b, err := command(t, t.Context(), "postgres", "verify-redo", dir, "-o", "json").Output()
		if err != nil {
			t.Errorf("verify-redo: %v", err)
		}
		var r struct {
			Kinds []struct {
				verify.Kind
				verify.Counts
			}
			Total       verify.Counts
			Records     uint64
			EarlyLeft   int `json:"early_left"`
			Differences []string
		}
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d records of %d kinds: %+v", r.Records, len(r.Kinds), r.Total)
		if r.Total.Differ+r.Total.Failed > 0 || r.Total.Equal < 500_000 || r.EarlyLeft > 0 || len(r.Kinds) < 60 {
			t.Errorf("want no difference in half a million blocks of 60 kinds of records; %d bits of visibility maps left; %v", r.EarlyLeft, r.Differences)
		}
	})
}

// compareDumps compares what pg_waldump and logcore postgres waldump print, line by line, and returns how many lines that is.
func compareDumps(t *testing.T, theirs, ours []string) int {
	t.Helper()
	cmds := []*exec.Cmd{exec.CommandContext(t.Context(), binaries+"pg_waldump", theirs...), command(t, t.Context(), append([]string{"postgres", "waldump"}, ours...)...)}
	var readers [2]*bufio.Scanner
	for i, cmd := range cmds {
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
	if different > 0 {
		t.Errorf("%d of %d lines differ", different, lines)
	}
	return lines
}

// writeRedoTable writes what docs/postgres-redo.md shows.
func writeRedoTable(path string, kinds map[verify.Kind]verify.Counts, records uint64) error {
	var names []verify.Kind
	for k := range kinds {
		names = append(names, k)
	}
	slices.SortFunc(names, func(a, b verify.Kind) int {
		return strings.Compare(a.Manager+" "+a.Operation, b.Manager+" "+b.Operation)
	})
	var table strings.Builder
	var all verify.Counts
	row := func(name string, c verify.Counts) {
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d | %d | %d | %d | %d |\n", name, c.Equal, c.Images, c.Unnative, c.Unknown, c.NoImage, c.Early, c.Unlogged, c.Differ+c.Failed)
	}
	for _, k := range names {
		all.Add(kinds[k])
		row(k.Manager+" | "+k.Operation, kinds[k])
	}
	row(fmt.Sprintf("all | %d records", records), all)
	return os.WriteFile(path, []byte(table.String()), 0o644)
}
