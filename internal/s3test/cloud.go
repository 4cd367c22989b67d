package s3test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cloud is one gateway process.
type Cloud struct {
	Name string

	servers *Servers
	link    *Link // nil unless Options.Links

	mu      sync.Mutex
	listen  string   // guarded by mu; host:port, port 0 until it was started once
	process *process // guarded by mu; nil while it is down
	secret  string   // guarded by mu; in place of the run's secret key
}

// process is one life of a gateway.
type process struct {
	cmd    *exec.Cmd
	log    tail
	exited chan struct{} // closed once it was waited for
	err    error         // of Wait; read after exited
}

// Endpoint is the gateway's URL. It stays the same over Kill and Restart.
func (c *Cloud) Endpoint() string {
	scheme, address := "https://", c.address()
	if c.servers.options.PlainHTTP {
		scheme = "http://"
	}
	if c.link != nil {
		address = c.link.Address()
	}
	return scheme + address
}

// Link is the way to the cloud; nil without Options.Links.
func (c *Cloud) Link() *Link { return c.link }

// SetSecret gives the gateway another secret key: it is restarted, and refuses who signs
// with the old one, as a provider does once credentials have expired. An empty one brings
// the first one back.
func (c *Cloud) SetSecret(ctx context.Context, secret string) error {
	if err := c.Kill(); err != nil {
		return err
	}
	c.mu.Lock()
	c.secret = secret
	c.mu.Unlock()
	return c.start(ctx)
}

func (c *Cloud) address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listen
}

// Kill ends the gateway with SIGKILL and waits for it. It is no error when it is down.
func (c *Cloud) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	err := c.process.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-c.process.exited
	c.process = nil
	return err
}

// Restart starts a gateway that was killed, on the same address with the same objects.
func (c *Cloud) Restart(ctx context.Context) error {
	if err := c.Kill(); err != nil {
		return err
	}
	return c.start(ctx)
}

// start starts the process and waits until it serves.
func (c *Cloud) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.servers.options.ReadyTimeout)
	defer cancel()
	var err error
	for range 3 { // another program may take a free port before the gateway does
		if err = c.startOnce(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("s3test: start cloud %s on %s: %w", c.Name, c.address(), err)
	}
	c.servers.options.Logger.Info("S3 gateway serves", "cloud", c.Name, "endpoint", c.Endpoint())
	return nil
}

func (c *Cloud) startOnce(ctx context.Context) error {
	args := []string{"--dir", filepath.Join(c.servers.options.Dir, "cloud-"+c.Name), "--listen", c.address(), "--region", region}
	if !c.servers.options.PlainHTTP {
		args = append(args, "--cert", c.servers.files.cert, "--key", c.servers.files.key)
	}
	c.mu.Lock()
	secret := cmp.Or(c.secret, c.servers.secretKey)
	c.mu.Unlock()
	p := &process{cmd: exec.Command(c.servers.binary, args...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "S3GATEWAY_ACCESS_KEY="+c.servers.accessKey, "S3GATEWAY_SECRET_KEY="+secret)
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	address := make(chan string, 1)
	go p.run(out, started, address)
	if err := <-started; err != nil {
		return err
	}
	select {
	case listen := <-address:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.listen, c.process = listen, p
		return nil
	case <-p.exited:
		return fmt.Errorf("it exited: %v: %s", p.err, p.log.String())
	case <-ctx.Done():
		p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("%w before it was ready: %s", ctx.Err(), p.log.String())
	}
}

// run starts the process and waits for it, all on one locked thread: the kernel sends
// the parent-death signal when the thread that started the child ends, and Go ends idle
// threads as it likes.
func (p *process) run(out io.Reader, started chan<- error, address chan<- string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		if listen, ok := strings.CutPrefix(scan.Text(), "listening "); ok {
			address <- listen
			break
		}
	}
	io.Copy(io.Discard, out) // until it exits
	p.err = p.cmd.Wait()
	close(p.exited)
}

// tail keeps the last bytes that a process wrote.
type tail struct {
	mu   sync.Mutex
	data []byte // guarded by mu; at most tailBytesMax
}

const tailBytesMax = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - tailBytesMax; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.data))
}

// poll calls try until it returns nil or the context ends.
func poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func randomSecret() string { return rand.Text() }
