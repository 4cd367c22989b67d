//go:build postgres

package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore/engine/postgres/receiver"
)

// refused starts an attach that has to end with an error that says this.
func (s *service) refused(t *testing.T, log string, from *server, want string, flags ...string) {
	t.Helper()
	p := s.background(t, append([]string{"postgres", "attach", log, "--server", from.connString(), "--addr", s.addr}, flags...)...)
	if said := p.ends(t); !contains(said, want) {
		t.Errorf("attach does not say %q:\n%s", want, said)
	}
}

// conditions returns the names of what  postgres status  says of a log.
func (s *service) conditions(t *testing.T, log string, flags ...string) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(t, ctx, append([]string{"postgres", "status", log, "-o", "json", "--addr", s.addr}, flags...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output() // it fails when there is a condition
	var status struct {
		Healthy    bool
		Conditions []struct{ Condition, Detail string }
	}
	if jerr := json.Unmarshal(out, &status); jerr != nil {
		t.Fatalf("postgres status: %v, %v\n%s%s", err, jerr, out, said.String())
	}
	if status.Healthy != (err == nil) || status.Healthy != (len(status.Conditions) == 0) {
		t.Errorf("postgres status: %v\n%s%s", err, out, said.String())
	}
	for _, c := range status.Conditions {
		if c.Detail == "" {
			t.Errorf("%s without a detail", c.Condition)
		}
		names = append(names, c.Condition)
	}
	return names
}

// shows checks that status shows a condition, of a log with a server. Others may hold too.
func (s *service) shows(t *testing.T, want, log string, flags ...string) {
	t.Helper()
	if got := s.conditions(t, log, flags...); !slices.Contains(got, want) {
		t.Errorf("status shows %v, want %s", got, want)
	}
}

// eventuallyShows is shows for what takes a moment.
func (s *service) eventuallyShows(t *testing.T, want, log string, flags ...string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got := s.conditions(t, log, flags...)
		if slices.Contains(got, want) || want == "" && len(got) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status shows %v, want %q", got, want)
		}
	}
}

// A server that can't be followed, or not into this log, is refused with the reason.
func TestServersThatAreRefused(t *testing.T) {
	t.Parallel()
	service := newService(t)
	first := newServer(t)
	attach := service.attach(t, "first", first)
	service.eventuallyShows(t, "", "first", "--server", first.connString())

	t.Run("second writer", func(t *testing.T) {
		service.refused(t, "first", first, "postgres attach at")
		second := service.background(t, "postgres", "attach", "first", "--server", first.connString(), "--slot", "other", "--addr", service.addr, "--takeover")
		if said := attach.ends(t); !contains(said, "fenced") {
			t.Errorf("the first attach does not say that it is fenced:\n%s", said)
		}
		query(t, connect(t, first.connString()), "create table written()") // waits for the second
		second.stop()
	})
	t.Run("another cluster", func(t *testing.T) {
		other := newServer(t)
		service.refused(t, "first", other, "database cluster")
		service.shows(t, "other_cluster", "first", "--server", other.connString())
	})
	t.Run("wal_level minimal", func(t *testing.T) {
		minimal := newServer(t, "wal_level=minimal", "max_wal_senders=0")
		service.refused(t, "minimal", minimal, "set wal_level to replica")
		service.shows(t, "wal_level", "minimal", "--server", minimal.connString())
	})
	t.Run("remote_apply", func(t *testing.T) {
		apply := newServer(t, "synchronous_commit=remote_apply")
		service.refused(t, "apply", apply, "remote_apply: commits would wait for ever")
		service.shows(t, "remote_apply", "apply", "--server", apply.connString())
	})
	t.Run("not listed", func(t *testing.T) {
		unlisted, metrics := newServer(t), fmt.Sprintf("127.0.0.1:%d", freePort(t))
		p := service.background(t, "postgres", "attach", "unlisted", "--server", unlisted.connString(), "--addr", service.addr, "--metrics", metrics)
		p.waitFor(t, "list the name in synchronous_standby_names", 1)
		service.shows(t, "not_synchronous", "unlisted", "--server", unlisted.connString())
		service.shows(t, "not_synchronous", "unlisted", "--agent", metrics)
	})
	t.Run("nobody listens", func(t *testing.T) {
		service.shows(t, "server_unreachable", "first", "--server", "host=/nowhere user=postgres")
	})
	// With --stay an attach that is fenced shows it, and takes the log back once the other has gone.
	t.Run("stays", func(t *testing.T) {
		s, metrics := newServer(t), fmt.Sprintf("127.0.0.1:%d", freePort(t))
		stays := service.background(t, "postgres", "attach", "stays", "--server", s.connString(), "--addr", service.addr, "--metrics", metrics, "--stay")
		awaitStream(t, s)
		second := service.background(t, "postgres", "attach", "stays", "--server", s.connString(), "--slot", "other", "--addr", service.addr, "--takeover")
		query(t, connect(t, s.connString()), "select txid_current(), pg_switch_wal()") // what the first sends now is refused
		service.eventuallyShows(t, "fenced", "stays", "--agent", metrics)
		second.stop()
		stays.waitFor(t, "following the server", 2)
		for deadline := time.Now().Add(time.Minute); slices.Contains(service.conditions(t, "stays", "--agent", metrics), "fenced"); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("still fenced")
			}
		}
		checkMetrics(t, metrics)
	})
}

// WAL that the server gave up before it was in the log can't be made up for: attach says so and
// what to do.
func TestGapInTheWAL(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t, "max_wal_size=32MB", "min_wal_size=32MB")
	service.attach(t, "gap", s).stop()
	c := connect(t, s.connString())
	query(t, c, "alter system reset synchronous_standby_names")
	query(t, c, "select pg_reload_conf()")
	query(t, c, "select pg_drop_replication_slot('logcore')")
	for range 6 {
		query(t, c, "select txid_current(), pg_switch_wal()")
		query(t, c, "checkpoint")
	}
	service.shows(t, "slot_lost", "gap", "--server", s.connString())
	service.shows(t, "gap", "gap", "--server", s.connString())
	service.refused(t, "gap", s, "no longer has the WAL that the log needs next")
}

// awaitStream waits until a server streams its WAL to an attach.
func awaitStream(t *testing.T, s *server) {
	t.Helper()
	c := connect(t, s.connString())
	for deadline := time.Now().Add(time.Minute); len(query(t, c, "select 1 from pg_stat_replication where application_name = 'logcore' and state = 'streaming'")) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not stream")
		}
	}
}

// checkMetrics checks that an agent's metrics are what the alerts are made of.
func checkMetrics(t *testing.T, addr string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`logcore_postgres_connected{log="stays"} 1`, `logcore_postgres_condition{condition="fenced",log="stays"} 0`, `logcore_postgres_condition{condition="not_synchronous",log="stays"} 1`,
		"logcore_postgres_acknowledged_position_bytes", "logcore_postgres_lag_bytes", "logcore_postgres_waiting_seconds", `logcore_postgres_connections_total{log="stays"} 2`, "logcore_postgres_acknowledge_seconds_bucket"} {
		if !contains(string(b), want) {
			t.Errorf("the metrics lack %s:\n%s", want, b)
		}
	}
}

// A slot that the server gave up for max_slot_wal_keep_size is shown while nobody is attached.
func TestSlotThatWasGivenUp(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t, "max_wal_size=32MB", "min_wal_size=32MB")
	service.attach(t, "slot", s).stop()
	c := connect(t, s.connString())
	query(t, c, "alter system set max_slot_wal_keep_size = '16MB'")
	query(t, c, "alter system reset synchronous_standby_names")
	query(t, c, "select pg_reload_conf()")
	for range 8 {
		query(t, c, "select txid_current(), pg_switch_wal()")
		query(t, c, "checkpoint")
	}
	if row := query(t, c, "select wal_status from pg_replication_slots")[0]; row != "lost" {
		t.Fatalf("the slot is %s", row)
	}
	got := service.conditions(t, "slot", "--server", s.connString())
	for _, want := range []string{"slot_lost", "gap", "not_followed", "not_synchronous"} {
		if !slices.Contains(got, want) {
			t.Errorf("status shows %v, want %s", got, want)
		}
	}
	service.refused(t, "slot", s, "begin another one, which takes a base backup")
}

// A record that is damaged at the server does not get into the log; once it is whole again, the log goes on without a gap.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t, "wal_keep_size=1GB", "autovacuum=off")
	service.attach(t, "damaged", s).stop()
	c := connect(t, s.connString())
	query(t, c, "alter system reset synchronous_standby_names")
	query(t, c, "select pg_reload_conf()")
	query(t, c, "create table t as select 1 i")
	at := query(t, c, "select (pg_walfile_name_offset(pg_current_wal_insert_lsn())).*")[0]
	query(t, c, "insert into t select generate_series(2, 1000)")
	query(t, c, "select txid_current(), pg_switch_wal()")
	name, offset, _ := strings.Cut(at, "|")
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	damage := func() {
		f, err := os.OpenFile(filepath.Join(s.data, "pg_wal", name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], n+40); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x20
		if _, err := f.WriteAt(b[:], n+40); err != nil {
			t.Fatal(err)
		}
	}
	damage()
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	stays := service.background(t, "postgres", "attach", "damaged", "--server", s.connString(), "--addr", service.addr, "--metrics", metrics, "--stay")
	service.eventuallyShows(t, "corrupt", "damaged", "--agent", metrics)
	damage() // and it is whole
	target := query(t, c, "select pg_current_wal_flush_lsn()")[0]
	for deadline := time.Now().Add(time.Minute); len(query(t, c, "select 1 from pg_stat_replication where flush_lsn >= '"+target+"'")) == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not go on:\n%s", stays.output.String())
		}
	}
	stays.stop()
	if n := queryOne(t, openAt(t, service, "damaged").connString(), "select count(*) from t"); n != "1000" {
		t.Errorf("%s rows, want 1000", n)
	}
}

// A setting that is changed while WAL is streamed is noticed.
func TestSettingsThatChange(t *testing.T) {
	t.Parallel()
	s, m := newServer(t), receiver.NewMonitor("memory")
	r, err := receiver.New(receiver.Options{ConnString: s.connString(), SettingsEvery: 50 * time.Millisecond, Monitor: m}, &memoryLog{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	holds := func(want ...receiver.Condition) {
		t.Helper()
		var got []receiver.Condition
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			got = nil
			for _, f := range m.Status().Conditions {
				got = append(got, f.Condition)
			}
			if slices.Equal(got, want) && m.Status().Connected {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, want %v", got, want)
			}
		}
	}
	c := connect(t, s.connString())
	holds(receiver.ConditionUnprotected)
	for _, step := range []struct {
		set  string
		want []receiver.Condition
	}{
		{"synchronous_standby_names = 'logcore'", nil}, {"synchronous_commit = 'remote_apply'", []receiver.Condition{receiver.ConditionApply}},
		{"synchronous_commit = 'local'", []receiver.Condition{receiver.ConditionUnprotected}}, {"synchronous_commit = 'on'", nil},
		{"synchronous_standby_names = 'other'", []receiver.Condition{receiver.ConditionUnprotected}},
	} {
		query(t, c, "alter system set "+step.set)
		query(t, c, "select pg_reload_conf()")
		holds(step.want...)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A server that was promoted from a state before the log's end lacks WAL that the log has.
func TestTimelineThatForkedEarlier(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t)
	service.attach(t, "fork", s).stop()
	s.kill()
	copied := &server{data: filepath.Join(workDir(t), "data"), port: freePort(t)}
	copied.socket = filepath.Dir(copied.data)
	run(t, "/usr/bin/env", "cp", "-a", s.data, copied.data)
	run(t, "/usr/bin/env", "rm", filepath.Join(copied.data, "postmaster.pid"))
	run(t, "/usr/bin/env", "touch", filepath.Join(copied.data, "standby.signal"))
	copied.configure(t, fmt.Sprintf("port=%d", copied.port), fmt.Sprintf("unix_socket_directories='%s'", copied.socket))
	run(t, "/usr/bin/env", "rm", filepath.Join(copied.data, "postgresql.auto.conf"))

	awaitGone(t, s)
	s.start(t)
	attach := service.attach(t, "fork", s)
	query(t, connect(t, s.connString()), "create table only_here as select generate_series(1, 10000)")
	attach.stop()

	copied.start(t)
	run(t, binaries+"pg_ctl", "-D", copied.data, "-w", "promote")
	service.shows(t, "timeline", "fork", "--server", copied.connString())
	service.refused(t, "fork", copied, "left timeline 1 at")
}

// While LogCore is away commits wait; when it is back they go on, and nothing was lost.
func TestLogCoreIsAway(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t)
	attach := service.attach(t, "away", s)
	c := connect(t, s.connString())
	query(t, c, "create table t(i int primary key)")
	for round := range 2 {
		service.process.kill()
		committed := make(chan error, 1)
		go func() {
			_, err := c.Exec(t.Context(), fmt.Sprintf("insert into t values (%d)", round)).ReadAll()
			committed <- err
		}()
		attach.waitFor(t, "LogCore does not acknowledge", round+1)
		service.shows(t, "logcore_unreachable", "away")
		select {
		case err := <-committed:
			t.Fatalf("a commit did not wait for LogCore: %v", err)
		default:
		}
		service.start(t)
		select {
		case err := <-committed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("the commit waits on:\n%s", attach.output.String())
		}
	}
	attach.stop()
	node := openAt(t, service, "away")
	if n := queryOne(t, node.connString(), "select count(*) from t"); n != "2" {
		t.Errorf("%s rows, want 2", n)
	}
}

// Connections that break under load leave neither a gap nor anything twice in the log.
func TestConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t)
	b := &bank{conn: s.connString()}
	b.setUp(t)
	attach := service.attach(t, "broken", s)
	go func() {
		defer s.kill()
		deadline := time.Now().Add(2 * time.Minute)
		for done, round := 0, 0; (round < 15 || done < 200) && time.Now().Before(deadline); round++ {
			time.Sleep(300 * time.Millisecond)
			cmd := exec.Command(binaries+"psql", "-qAt", s.connString(), "-c", "select 0 * count(pg_terminate_backend(pid)) + (select count(*) from history) from pg_stat_replication")
			out, _ := cmd.Output() // what it did is looked at below
			if _, err := fmt.Sscan(string(out), &done); err != nil {
				done = 0
			}
		}
	}()
	b.work(t, func() {})
	attach.waitFor(t, "trying again", 6)
	attach.stop()
	node := openAt(t, service, "broken")
	b.conn = node.connString()
	if n := b.check(t); n < 100 {
		t.Errorf("%d transactions: nothing was shown", n)
	}
}

// awaitGone waits until all processes of a killed server are gone, the ones in its data directory: another
// can't start before.
func awaitGone(t testing.TB, s *server) {
	t.Helper()
	left := func() string {
		if pid := postmaster(s.data); pid != 0 && syscall.Kill(pid, 0) == nil {
			return fmt.Sprint(pid)
		}
		all, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			t.Fatal(err)
		}
		for _, cwd := range all {
			if dir, err := os.Readlink(cwd); err == nil && dir == s.data {
				return cwd
			}
		}
		return ""
	}
	for deadline := time.Now().Add(30 * time.Second); left() != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a process of the killed server is left: %s", left())
		}
	}
}

// manager is an extension with a resource manager of its own.
const manager = `
#include "postgres.h"
#include "fmgr.h"
#include "access/xlog_internal.h"
#include "access/xloginsert.h"

PG_MODULE_MAGIC;

static void redo(XLogReaderState *r) { }
static void desc(StringInfo to, XLogReaderState *r) { }
static const char *identify(uint8 info) { return "NOTE"; }

static RmgrData manager = {.rm_name = "logcore_test", .rm_redo = redo, .rm_desc = desc, .rm_identify = identify};

void _PG_init(void);
void _PG_init(void) { RegisterCustomRmgr(RM_EXPERIMENTAL_ID, &manager); }

PG_FUNCTION_INFO_V1(note);
Datum note(PG_FUNCTION_ARGS)
{
	char data[8] = "note";

	XLogBeginInsert();
	XLogRegisterData(data, sizeof data);
	XLogInsert(RM_EXPERIMENTAL_ID, 0);
	PG_RETURN_VOID();
}
`

// WAL of an extension with a resource manager of its own goes into the log, which the page server serves up to there; other logs go on. The status names it.
func TestExtensionWithAResourceManager(t *testing.T) {
	t.Parallel()
	include := filepath.Join(os.Getenv("LOGCORE_PG_SOURCE"), "src", "include")
	if _, err := os.Stat(filepath.Join(include, "access", "xlog_internal.h")); err != nil {
		t.Fatalf("LOGCORE_PG_SOURCE does not say where PostgreSQL's source is: run make test-postgres: %v", err)
	}
	dir := workDir(t)
	source, library := filepath.Join(dir, "manager.c"), filepath.Join(dir, "manager.so")
	if err := os.WriteFile(source, []byte(manager), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-O1", "-I", include, "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	service, s := newService(t), newServer(t, "shared_preload_libraries='"+library+"'")
	attach := service.attach(t, "extended", s)
	c := connect(t, s.connString())
	query(t, c, "create table t as select 1 i")
	query(t, c, "create function note() returns void language c as '"+library+"'")
	before := service.lastLSN(t, "extended")
	service.eventuallyShows(t, "", "extended", "--server", s.connString())
	query(t, c, "select note()")
	query(t, c, "insert into t values (2)") // it goes on to be acknowledged
	service.eventuallyShows(t, "quarantined", "extended")
	if out, _ := service.try(t, "postgres", "status", "extended"); !contains(out, "belongs to an extension") {
		t.Errorf("the status does not say why:\n%s", out)
	}
	other := newServer(t)
	service.attach(t, "other", other)
	service.eventuallyShows(t, "", "other", "--server", other.connString())
	attach.stop()
	if out, err := service.try(t, "postgres", "basebackup", "extended", "--to", filepath.Join(workDir(t), "data")); err == nil || !contains(out, "belongs to an extension") {
		t.Errorf("a data directory behind the record: %v\n%s", err, out)
	}
	s.stop(t)
	if n := queryOne(t, openAt(t, service, "extended", "--lsn", before).connString(), "select count(*) from t"); n != "1" {
		t.Errorf("%s rows before the record, want 1", n)
	}
}

// When LogCore's disk is full commits wait, the status says so, and when there is room again they go on: nothing is lost.
func TestLogCoreDiskIsFull(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "logcore-full")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	service := &service{addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), dir: filepath.Join(dir, "service"), within: []string{"unshare", "--mount", "--map-root-user", "sh", "-c",
		`mount -t tmpfs -o size=700m tmpfs "$0" && exec "$@"`, dir}}
	service.start(t)
	s := newServer(t)
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	attach := service.attach(t, "full", s)
	attach.stop()
	attach = service.background(t, "postgres", "attach", "full", "--server", s.connString(), "--addr", service.addr, "--metrics", metrics, "--stay")
	awaitStream(t, s)
	c := connect(t, s.connString())
	query(t, c, "create table t as select 1 i")
	filler := filepath.Join("/proc", strconv.Itoa(service.process.cmd.Process.Pid), "root", dir, "filler") // as the service sees it
	fill(t, filler)
	var acknowledged atomic.Int64
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-enough:
				ended <- nil
				return
			default:
			}
			if _, err := c.Exec(t.Context(), "insert into t select 2 from generate_series(1, 20000)").ReadAll(); err != nil {
				ended <- err
				return
			}
			acknowledged.Add(20000)
		}
	}()
	// What is preallocated takes some. Then the service refuses more, or keeps what it has taken until there is room.
	stuck := func() bool {
		return contains(attach.output.String(), "commits wait; trying again") || slices.Contains(service.conditions(t, "full", "--agent", metrics), "logcore_unreachable")
	}
	for deadline := time.Now().Add(4 * time.Minute); !stuck(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing says that the disk is full: %v after %d rows", service.conditions(t, "full", "--agent", metrics), acknowledged.Load())
		}
	}
	service.shows(t, "disk_full", "full", "--agent", metrics) // the page server's at least
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	before := acknowledged.Load()
	for deadline := time.Now().Add(4 * time.Minute); acknowledged.Load() < before+60000; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("commits wait on:\n%s", attach.output.String())
		}
	}
	close(enough)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	attach.stop()
	if n := queryOne(t, openAt(t, service, "full").connString(), "select count(*) from t"); n != fmt.Sprint(acknowledged.Load()+1) {
		t.Errorf("%s rows, %d were acknowledged", n, acknowledged.Load()+1)
	}
}

// fill writes a file until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 1<<20); ; {
		if _, err := f.Write(b); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
