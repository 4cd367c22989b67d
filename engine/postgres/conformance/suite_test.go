//go:build postgres && suite

package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/verify"
	"github.com/logcore/logcore/engine/postgres/wal"
)

const (
	// partBytes is how much WAL is looked at in one go.
	partBytes = 256 << 20
	// aheadBytes is how far the suite may be ahead of what was looked at: then its clients are stopped for a while.
	aheadBytes = 768 << 20
	// walBytesMax is what the suite's WAL may take on the disk, of the 10 GB that it writes.
	walBytesMax = 3 << 30
)

// suite runs the whole regression suite, and looks at its WAL while it is written. What was looked at the server removes.
type suite struct {
	dir      string // of the WAL
	control  *pgconn.PgConn
	verifier *verify.Verifier
	at       wal.Position // what is before was looked at

	records, lines uint64
	parts          int
	kept           int64 // the most that the WAL took on the disk, in bytes
	differences    []string
}

const slot = "looked_at"

// All 217 tests of PostgreSQL's own regression suite, under wal_consistency_checking=all: some 10 GB of WAL, of which each line is
// pg_waldump's, and each block redone in Go is the server's (make test-postgres-suite).
func TestWholeRegressionSuite(t *testing.T) {
	// Without full page writes no page comes as an image that redo takes: each block is redone. That is how LogCore runs its nodes.
	s := newServer(t, "wal_consistency_checking=all", "full_page_writes=off", "max_wal_size=1GB", "wal_recycle=off", "checkpoint_timeout=1h",
		"max_prepared_transactions=10", "shared_buffers=256MB")
	u := &suite{dir: filepath.Join(s.data, "pg_wal"), control: connect(t, s.connString())}
	u.verifier = verify.New(redo.Redo{}, func(d *verify.Difference) { u.differences = append(u.differences, d.Error()) })
	query(t, u.control, "select pg_create_physical_replication_slot('"+slot+"', true), pg_switch_wal()")
	query(t, u.control, "checkpoint")
	u.know(t, s.data)
	u.at = u.flushed(t)

	args := suiteCommand(t, s, "./parallel_schedule")
	cmd := asPostgres(t, exec.CommandContext(t.Context(), args[0], args[1:]...))
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // it is stopped with all its clients
	cmd.Dir = "/"
	var printed lockedBuffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // it has ended, unless the test fails
	u.follow(t, cmd.Process.Pid, ended)
	if t.Failed() || !contains(printed.String(), "tests passed") {
		t.Fatalf("%s", tail([]byte(printed.String())))
	}
	u.control.Close(t.Context())
	s.stop(t)
	var end error
	for before := wal.Position(0); before != u.at && !t.Failed(); { // to the checkpoint that it stopped with
		before = u.at
		end = u.part(t)
	}
	var invalid *wal.InvalidError
	if end != nil && !(errors.As(end, &invalid) && invalid.NothingWritten()) {
		t.Errorf("the WAL of a server that was stopped: %v", end)
	}
	u.report(t)
}

// know tells the verifier the pages of the server's files.
func (u *suite) know(t *testing.T, data string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "base", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	global, err := filepath.Glob(filepath.Join(data, "global", "*"))
	if err != nil {
		t.Fatal(err)
	}
	forks, pages := map[string]wal.Fork{"": wal.ForkMain, "_vm": wal.ForkVM, "_init": wal.ForkInit}, 0
	for _, path := range append(files, global...) {
		name := relationName.FindStringSubmatch(filepath.Base(path))
		if name == nil {
			continue
		}
		relation := wal.Relation{Tablespace: 1664}
		if dir := filepath.Base(filepath.Dir(path)); dir != "global" {
			relation.Tablespace, relation.Database = 1663, number(t, dir)
		}
		relation.File = number(t, strings.FieldsFunc(name[0], func(r rune) bool { return r < '0' || r > '9' })[0])
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(b) / page.Bytes {
			u.verifier.Know(relation, forks[name[1]], uint32(i), page.Page(b[i*page.Bytes:(i+1)*page.Bytes]))
			pages++
		}
	}
	if pages < 2000 {
		t.Fatalf("%d pages in the server's files", pages)
	}
	u.verifier.KnowsAll()
}

func number(t *testing.T, s string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// follow looks at the WAL until the suite has ended.
func (u *suite) follow(t *testing.T, group int, ended <-chan error) {
	stopped := false
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(-group, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	for {
		ahead := u.flushed(t) - u.at
		if stop := ahead > aheadBytes; stop != stopped {
			stopped = stop
			signal(map[bool]syscall.Signal{true: syscall.SIGSTOP, false: syscall.SIGCONT}[stop])
		}
		if ahead >= partBytes {
			before := u.at
			if err := u.part(t); u.at == before || t.Failed() {
				t.Fatalf("of %d MB behind %v nothing can be read: %v", ahead>>20, before, err)
			}
			query(t, u.control, fmt.Sprintf("select pg_replication_slot_advance('%s', '%v')", slot, u.at))
			query(t, u.control, "checkpoint")
			continue
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the regression suite: %v", err)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (u *suite) flushed(t *testing.T) wal.Position {
	t.Helper()
	at, err := wal.ParsePosition(query(t, u.control, "select pg_current_wal_flush_lsn()")[0])
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// part looks at what was written since the part before, twice partBytes at most. The error says why nothing
// further could be read: it means something only when that is not where the server is writing.
func (u *suite) part(t *testing.T) error {
	t.Helper()
	u.measure(t)
	var first, last wal.Position
	from := u.at
	err := wal.ReadDir(t.Context(), wal.DirOptions{Dir: u.dir, Start: from}, func(r *wal.Record) bool {
		if first == 0 {
			first = r.Start
		}
		u.verifier.Record(r)
		u.records++
		last = r.End
		return r.End < from+2*partBytes
	})
	if first == 0 {
		return err
	}
	u.at = last
	u.parts++
	lines := compareDumps(t, []string{"-p", u.dir, "-s", first.String(), "-e", last.String()}, []string{u.dir, "--start", first.String(), "--end", last.String()})
	u.lines += uint64(lines)
	t.Logf("part %d: up to %v, %d records", u.parts, u.at, u.records)
	return err
}

// measure notes how much the WAL takes on the disk.
func (u *suite) measure(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // the server may just have removed it
			bytes += info.Size()
		}
	}
	u.kept = max(u.kept, bytes)
}

func (u *suite) report(t *testing.T) {
	t.Helper()
	kinds := u.verifier.Counts()
	var all verify.Counts
	for _, c := range kinds {
		all.Add(c)
	}
	t.Logf("%d records of %d kinds in %d parts, %d lines, %d MB of WAL on the disk at most: %+v", u.records, len(kinds), u.parts, u.lines, u.kept>>20, all)
	for _, d := range u.differences[:min(len(u.differences), 20)] {
		t.Error(d)
	}
	if all.Differ+all.Failed+all.Unknown+all.NoImage > 0 || all.Equal < 1_000_000 || u.verifier.EarlyLeft() > 0 {
		t.Errorf("want no difference in a million blocks, and none passed over; %d bits of visibility maps left", u.verifier.EarlyLeft())
	}
	if u.lines != u.records {
		t.Errorf("%d lines were compared, of %d records", u.lines, u.records)
	}
	if u.kept > walBytesMax {
		t.Errorf("the WAL took %d MB on the disk", u.kept>>20)
	}
	if path := os.Getenv("LOGCORE_REDO_TABLE"); path != "" {
		if err := writeRedoTable(path, kinds, u.records); err != nil {
			t.Error(err)
		}
	}
}
