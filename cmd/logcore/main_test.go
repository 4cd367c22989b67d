package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
)

// binaries is where TestMain puts the real programs, built once.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "logcore-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	build := exec.Command("go", "build", "-o", dir+"/", "github.com/logcore/logcore/cmd/logcore", "github.com/logcore/logcore/cmd/logsvc", "github.com/logcore/logcore/cmd/pageserver")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binaries: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// result is what a command did.
type result struct {
	code exit.Code
	out  string
	err  string
}

// cli runs a command in this process.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	return cliIn(t, strings.NewReader(""), args...)
}

func cliIn(t *testing.T, in io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, stdio{in, &stdout, &stderr}, func(string) string { return "" })
	return result{code, stdout.String(), stderr.String()}
}

// want fails the test unless the command ended with the code and its output, or else its
// errors, hold every text.
func (r result) want(t *testing.T, code exit.Code, texts ...string) result {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out, text) && !strings.Contains(r.err, text) {
			t.Errorf("nothing says %q\nstdout: %s\nstderr: %s", text, r.out, r.err)
		}
	}
	return r
}

// program is a real process of one of the binaries.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string // after ready
	stderr *bytes.Buffer
	stdout *bytes.Buffer
	exited chan struct{}
}

// startProgram starts a binary and waits for its ready line. It is killed at the test's end.
func startProgram(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p, ready := tryProgram(t, name, args...)
	if !ready {
		t.Fatalf("%s %v ended before it was ready\n%s%s", name, args, p.stdout, p.stderr)
	}
	return p
}

// tryProgram starts a binary and waits for its ready line or its end.
func tryProgram(t *testing.T, name string, args ...string) (*program, bool) {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(filepath.Join(binaries, name), args...), stderr: &bytes.Buffer{}, stdout: &bytes.Buffer{}, exited: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(p.exited)
		p.readTo(out, ready)
		p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	select {
	case p.addr = <-ready:
		return p, true
	case <-p.exited:
		return p, false
	case <-time.After(time.Minute):
		t.Fatalf("%s %v was not ready within a minute", name, args)
		return nil, false
	}
}

func (p *program) readTo(out io.Reader, ready chan<- string) {
	var line []byte
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		p.stdout.Write(buf[:n])
		for _, c := range buf[:n] {
			if c != '\n' {
				line = append(line, c)
				continue
			}
			if addr, ok := strings.CutPrefix(string(line), "ready "); ok {
				ready <- addr
			}
			line = line[:0]
		}
		if err != nil {
			return
		}
	}
}

// kill ends the process as a crash would.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// stop asks the process to end and expects exit code 0.
func (p *program) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code := p.wait(); code != exit.OK {
		p.t.Errorf("%s ended with exit code %d after SIGTERM\n%s", p.cmd.Path, code, p.stderr)
	}
}

// wait returns the exit code.
func (p *program) wait() exit.Code {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s did not end within a minute", p.cmd.Path)
	}
	return exit.Code(p.cmd.ProcessState.ExitCode())
}

// startDev starts `logcore dev` on a directory.
func startDev(t *testing.T, dir string, args ...string) *program {
	t.Helper()
	return startProgram(t, "logcore", append([]string{"dev", "--dir", dir, "--listen", "127.0.0.1:0", "--metrics", ""}, args...)...)
}
