//go:build postgres

package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// refused starts an attach that has to end with an error that says this.
func (s *service) refused(t *testing.T, log string, from *server, want string, flags ...string) {
	t.Helper()
	p := s.background(t, append([]string{"postgres", "attach", log, "--server", from.connString(), "--addr", s.addr}, flags...)...)
	if said := p.ends(t); !contains(said, want) {
		t.Errorf("attach does not say %q:\n%s", want, said)
	}
}

// A server that can't be followed, or not into this log, is refused with the reason.
func TestServersThatAreRefused(t *testing.T) {
	t.Parallel()
	service := newService(t)
	first := newServer(t)
	attach := service.attach(t, "first", first)

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
		service.refused(t, "first", newServer(t), "database cluster")
	})
	t.Run("wal_level minimal", func(t *testing.T) {
		service.refused(t, "minimal", newServer(t, "wal_level=minimal", "max_wal_senders=0"), "set wal_level to replica")
	})
	t.Run("remote_apply", func(t *testing.T) {
		service.refused(t, "apply", newServer(t, "synchronous_commit=remote_apply"), "remote_apply: commits would wait for ever")
	})
	t.Run("not listed", func(t *testing.T) {
		p := service.background(t, "postgres", "attach", "unlisted", "--server", newServer(t).connString(), "--addr", service.addr)
		p.waitFor(t, "list the name in synchronous_standby_names", 1)
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
	service.refused(t, "gap", s, "no longer has the WAL that the log needs next")
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
