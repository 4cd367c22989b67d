//go:build postgres

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const binaries = "/usr/lib/postgresql/15/bin/"

// asPostgres makes a command run as the server's user: it refuses to run as root.
func asPostgres(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		return cmd
	}
	uid, gid := postgresUser(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	cmd.Env = append(os.Environ(), "HOME=/tmp", "TZ=UTC", "PGUSER=postgres")
	return cmd
}

func postgresUser(t testing.TB) (uid, gid uint32) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("no user postgres: install PostgreSQL 15 with make test-postgres: %v", err)
	}
	n, err1 := strconv.ParseUint(u.Uid, 10, 32)
	m, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return uint32(n), uint32(m)
}

// runWithin is for the longest of them, the regression suite.
const runWithin = 15 * time.Minute

// run runs a command as the server's user and returns what it printed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runWithin)
	defer cancel()
	cmd := asPostgres(t, exec.CommandContext(ctx, name, args...))
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(out))
	}
	return string(out)
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }

// workDir returns a directory that the server's user owns and everybody may enter.
func workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "logcore-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		uid, gid := postgresUser(t)
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// server is a PostgreSQL of the test's own.
type server struct {
	data, socket string
	port         int
}

// newServer initialises a cluster and starts a server with these settings.
func newServer(t testing.TB, settings ...string) *server {
	t.Helper()
	return newServerOf(t, nil, settings...)
}

// newServerOf is newServer with flags for initdb.
func newServerOf(t testing.TB, initdb []string, settings ...string) *server {
	t.Helper()
	if _, err := os.Stat(binaries + "postgres"); err != nil {
		t.Fatalf("PostgreSQL 15 is missing: install it with make test-postgres: %v", err)
	}
	dir := workDir(t)
	s := &server{data: filepath.Join(dir, "data"), socket: dir, port: freePort(t)}
	run(t, binaries+"initdb", append(initdb, "-D", s.data, "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")...)
	s.configure(t, append([]string{"listen_addresses=''", fmt.Sprintf("port=%d", s.port), fmt.Sprintf("unix_socket_directories='%s'", s.socket), "fsync=off"}, settings...)...)
	s.start(t)
	return s
}

func (s *server) configure(t testing.TB, settings ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\n" + strings.Join(settings, "\n") + "\n"); err != nil {
		t.Fatal(err)
	}
}

func (s *server) start(t testing.TB) {
	t.Helper()
	run(t, binaries+"pg_ctl", "-D", s.data, "-w", "-t", "60", "-l", filepath.Join(s.socket, "log"), "start")
	t.Cleanup(func() {
		s.kill()
		if b, err := os.ReadFile(filepath.Join(s.socket, "log")); err == nil && t.Failed() {
			t.Logf("the server at port %d:\n%s", s.port, tail(b))
		}
	})
}

func (s *server) stop(t testing.TB) {
	t.Helper()
	run(t, binaries+"pg_ctl", "-D", s.data, "-w", "-m", "fast", "stop")
}

// kill ends the server as a crash does; it is fine when it is gone.
func (s *server) kill() { killPostmaster(s.data) }

func killPostmaster(data string) bool {
	pid := postmaster(data)
	return pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
}

// postmaster returns the process that a data directory is locked by, 0 for none.
func postmaster(data string) int {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil || pid <= 1 {
		return 0
	}
	return pid
}

func (s *server) connString() string { return connString(s.socket, s.port) }

func connString(socket string, port int) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", socket, port)
}

// statementTimeout ends a statement that waits for something that never comes: the test fails with its text.
const statementTimeout = time.Minute

// connect waits until the server lets it in.
func connect(t testing.TB, conn string) *pgconn.PgConn {
	t.Helper()
	conn += fmt.Sprintf(" connect_timeout=10 statement_timeout=%d", statementTimeout.Milliseconds())
	for deadline := time.Now().Add(60 * time.Second); ; {
		c, err := pgconn.Connect(t.Context(), conn)
		if err == nil {
			t.Cleanup(func() { c.Close(context.Background()) })
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", conn, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// query returns the rows of the last statement, columns joined by |.
func query(t testing.TB, c *pgconn.PgConn, sql string) []string {
	t.Helper()
	// A commit that waits for its standby is beyond statement_timeout: cancelled, it succeeds with a warning.
	ctx, cancel := context.WithTimeout(t.Context(), statementTimeout+10*time.Second)
	defer cancel()
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var rows []string
	for _, row := range results[len(results)-1].Rows {
		var columns []string
		for _, v := range row {
			columns = append(columns, string(v))
		}
		rows = append(rows, strings.Join(columns, "|"))
	}
	return rows
}

func queryOne(t testing.TB, conn, sql string) string {
	t.Helper()
	c := connect(t, conn)
	rows := query(t, c, sql)
	c.Close(context.Background()) // benchmarks ask often
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows", sql, len(rows))
	}
	return rows[0]
}
