package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	readyWithin = 30 * time.Second
	stopWithin  = 30 * time.Second
	// childLineMax bounds a line of a child's output.
	childLineMax = 1 << 20
)

// child is a process that the demo runs: a real one, so that SIGKILL is a real crash.
type child struct {
	name   string
	cmd    *exec.Cmd
	lines  chan string // of its stdout; closed at the end of it
	log    string      // file with its stderr
	exited chan struct{}
	err    error // of Wait; valid once exited is closed
}

// startChild starts the logcore binary exe with args; its stderr goes to logDir.
func startChild(exe, name, logDir string, env []string, args ...string) (*child, error) {
	c := &child{name: name, lines: make(chan string, 64), exited: make(chan struct{}), log: filepath.Join(logDir, name+".log")}
	stderr, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	defer stderr.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	c.cmd = exec.Command(exe, args...)
	c.cmd.Stdout, c.cmd.Stderr = write, stderr
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.SysProcAttr = childAttributes()
	started := make(chan error, 1)
	go c.live(started)
	err = <-started
	write.Close()
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("demo: starting %s: %w", name, err)
	}
	go c.read(read)
	return c, nil
}

// live starts the process and waits for it on one locked thread: the kernel kills a
// child when the thread that started it ends, and Go ends idle threads as it likes.
func (c *child) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	c.err = c.cmd.Wait()
	close(c.exited)
}

// read passes whole lines on; what a kill cut in the middle is no line.
func (c *child) read(r io.ReadCloser) {
	defer r.Close()
	defer close(c.lines)
	buf := bufio.NewReaderSize(r, childLineMax)
	for {
		line, err := buf.ReadString('\n')
		if err != nil {
			return
		}
		c.lines <- strings.TrimSuffix(line, "\n")
	}
}

// waitLine returns the rest of the first line that begins with prefix.
func (c *child) waitLine(ctx context.Context, prefix string) (string, error) {
	timeout := time.NewTimer(readyWithin)
	defer timeout.Stop()
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				<-c.exited
				return "", fmt.Errorf("demo: %s ended before it was ready: %v\n%s", c.name, c.err, c.tail())
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return strings.TrimSpace(rest), nil
			}
		case <-timeout.C:
			return "", fmt.Errorf("demo: %s was not ready within %v\n%s", c.name, readyWithin, c.tail())
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// drain throws the lines away until the end, so that the child never blocks on them.
func (c *child) drain() {
	for range c.lines {
	}
}

// tail is the end of the child's stderr, for the error message.
func (c *child) tail() string {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return ""
	}
	const keep = 4 << 10
	return string(data[max(0, len(data)-keep):])
}

// kill ends the process as a power cut would, and waits for its end.
func (c *child) kill() error {
	err := c.cmd.Process.Kill()
	<-c.exited
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("demo: %s had ended by itself before it was killed: %v\n%s", c.name, c.err, c.tail())
	}
	return err
}

// stop asks the process to end and expects that it does so cleanly.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("demo: stopping %s: %w", c.name, err)
	}
	select {
	case <-c.exited:
	case <-time.After(stopWithin):
		return errors.Join(fmt.Errorf("demo: %s did not stop within %v\n%s", c.name, stopWithin, c.tail()), c.kill())
	}
	if c.err != nil {
		return fmt.Errorf("demo: %s: %w\n%s", c.name, c.err, c.tail())
	}
	return nil
}

// end makes sure that nothing is left of the process.
func (c *child) end() {
	select {
	case <-c.exited:
	default:
		c.cmd.Process.Kill()
		<-c.exited
	}
}
