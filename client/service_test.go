package client_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// service is a log service in this process, on a real listener over a real directory.
type service struct {
	addr  string
	group *replication.Group
	stop  func()
}

func serve(dir string, opts replication.Options) (*service, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	opts.Log.Dir, opts.Log.Logger, opts.Log.SegmentBytes = dir, quiet, 1<<20
	group, err := replication.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	svc, err := logsvc.New(logsvc.Options{Group: group, Logger: quiet})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(logsvc.ServerOptions(0)...)
	svc.Register(server)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	return &service{addr: l.Addr().String(), group: group, stop: func() {
		svc.Close()
		server.Stop()
		serving.Wait()
		group.Close()
	}}, nil
}

func startService(t testing.TB, opts replication.Options) *service {
	t.Helper()
	s, err := serve(t.TempDir(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

func dial(t testing.TB, opts client.Options) *client.Client {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	c, err := client.Dial(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// proxy stands between a client and the service and mistreats connections.
type proxy struct {
	addr    string
	backend string
	l       net.Listener
	running sync.WaitGroup
	deaf    atomic.Bool // what the service says is thrown away

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t testing.TB, backend string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), backend: backend, l: l}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.backend)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.running.Go(func() { io.Copy(out, in); out.Close() })
		p.running.Go(func() { p.answer(in, out); in.Close() })
	}
}

func (p *proxy) answer(in, out net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := out.Read(b)
		if err != nil {
			return
		}
		if p.deaf.Load() {
			continue
		}
		if _, err := in.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// fullDisk returns a service whose hot log can't get another segment, with three sealed
// ones that may be trimmed.
func fullDisk(t testing.TB) *service {
	t.Helper()
	dir := t.TempDir()
	s, err := serve(dir, replication.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, client.Options{Addr: s.addr})
	ctx := testContext(t)
	w, err := c.OpenWriter(ctx, "filler", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for len(s.group.HotLog().Segments()) < 4 {
		if _, err := w.AppendTx(ctx, [16]byte{1}, [][]byte{make([]byte, 64<<10)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if s, err = serve(dir, replication.Options{Log: hotlog.Options{DiskReserveBytes: 1 << 60}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}
