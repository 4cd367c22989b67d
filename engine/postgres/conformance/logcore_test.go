//go:build postgres

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builtDir is where logcoreBinary built the command.
var builtDir string

// logcoreBinary is the command: LOGCORE_BINARY, or built once for all tests.
var logcoreBinary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("LOGCORE_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "logcore-bin")
	if err != nil {
		return "", err
	}
	builtDir = dir
	path := filepath.Join(dir, "logcore")
	out, err := exec.Command("go", "build", "-o", path, "github.com/logcore/logcore/cmd/logcore").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if builtDir != "" {
		_ = os.RemoveAll(builtDir) // what it leaves is the system's to clean up
	}
	os.Exit(code)
}

// service is a LogCore of the test's own.
type service struct {
	addr, dir string
	within    []string // a command that starts LogCore; nil: it is started as it is
	process   *process
}

func newService(t testing.TB) *service {
	t.Helper()
	dir, err := os.MkdirTemp("", "logcore-dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &service{addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), dir: dir}
	s.start(t)
	return s
}

// start starts LogCore, also one that was killed.
func (s *service) start(t testing.TB) {
	t.Helper()
	dev := command(t, context.Background(), "dev", "--dir", s.dir, "--listen", s.addr, "--metrics", "")
	if len(s.within) > 0 {
		dev = exec.Command(s.within[0], append(s.within[1:], dev.Args...)...)
	}
	s.process = s.launch(t, dev)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if out, err := s.try(t, "log", "ls"); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("LogCore does not answer: %v\n%s", err, out)
		}
	}
}

// process is a LogCore command that goes on.
type process struct {
	cmd    *exec.Cmd
	output lockedBuffer
	done   chan struct{}
	err    error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func command(t testing.TB, ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	path, err := logcoreBinary()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, path, args...)
}

// background starts a command that is stopped when the test ends.
func (s *service) background(t testing.TB, args ...string) *process {
	t.Helper()
	return s.launch(t, command(t, context.Background(), args...))
}

// launch is background for a command that was made.
func (s *service) launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	// In a session of its own, as a service manager starts it, and as PostgreSQL's processes are: Linux shares out the processors among sessions
	// first, and LogCore would have one's share together with pgbench and the test.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args[1:], " "), tail([]byte(p.output.String())))
		}
	})
	return p
}

// stop interrupts the command and waits for its end.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the command as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ends waits until the command ends by itself, with an error, and returns what it said.
func (p *process) ends(t testing.TB) string {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatalf("goes on:\n%s", tail([]byte(p.output.String())))
	}
	if p.err == nil {
		t.Errorf("ended without an error:\n%s", tail([]byte(p.output.String())))
	}
	return p.output.String()
}

// waitFor waits until the output holds a text n times.
func (p *process) waitFor(t testing.TB, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); strings.Count(p.output.String(), text) < n; time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("ended with %v before it said %q:\n%s", p.err, text, tail([]byte(p.output.String())))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("did not say %q %d times:\n%s", text, n, tail([]byte(p.output.String())))
		}
	}
}

// try runs a command to its end.
func (s *service) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := command(t, ctx, append(args, "--addr", s.addr)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *service) must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.try(t, args...)
	if err != nil {
		t.Fatalf("logcore %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// attach follows a server into a log and returns once the base backup is there and the
// server waits for LogCore.
func (s *service) attach(t testing.TB, log string, from *server) *process {
	t.Helper()
	p := s.background(t, "postgres", "attach", log, "--server", from.connString(), "--addr", s.addr)
	c := connect(t, from.connString())
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if rows := query(t, c, "select 1 from pg_stat_replication where application_name = 'logcore' and state = 'streaming'"); len(rows) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("attach does not stream:\n%s", p.output.String())
		}
	}
	query(t, c, "alter system set synchronous_standby_names = 'logcore'")
	query(t, c, "select pg_reload_conf()")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if rows := query(t, c, "select 1 from pg_stat_replication where sync_state = 'sync'"); len(rows) == 1 {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not take LogCore as synchronous")
		}
	}
}
