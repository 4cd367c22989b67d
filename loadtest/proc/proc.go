// Package proc runs the programs under test as child processes that end with this one.
package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child that says `ready HOST:PORT` once it serves.
type Process struct {
	cmd *exec.Cmd
	// Addr is what it said.
	Addr string
	out  sync.WaitGroup // copies what it says
}

const readyWithin = 30 * time.Second

// Start starts a program and waits until it is ready. What it says goes to the log file,
// at whose end it can be found when it isn't. The child ends with this process.
func Start(ctx context.Context, logPath string, name string, args ...string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	p := &Process{cmd: exec.Command(name, args...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.Stderr = log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	p.out.Go(func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if addr, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- addr
				break
			}
		}
		close(ready)
		io.Copy(io.Discard, stdout)
	})
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case addr, ok := <-ready:
		if ok {
			p.Addr = addr
			return p, nil
		}
		err = errors.New("it ended")
	case <-timer.C:
		err = fmt.Errorf("not ready within %v", readyWithin)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.Kill()
	return nil, fmt.Errorf("%s %s: %w; its messages:\n%s", filepath.Base(name), strings.Join(args, " "), err, tailOf(logPath))
}

// Kill ends the child at once and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	p.out.Wait()
	_ = p.cmd.Wait()
}

// Pid returns the child's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the child a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// tailOf returns the end of a file.
func tailOf(path string) string {
	b, _ := os.ReadFile(path)
	return string(b[max(0, len(b)-2000):])
}
