package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// Client is the way to a LogCore service, whose members it knows or finds, and to its page
// server. It may be used by many goroutines.
type Client struct {
	opts    Options
	certs   *certs.Certificates // nil without Options.TLSFiles
	router  *router
	servers *pageServers
	hedge   hedge

	// running counts the appenders; stop ends them.
	running sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc
}

// Dial connects to the service and returns once the connection to one of its members
// stands, or an error that wraps ErrUnavailable when none does within Options.DialTimeout;
// at once with Options.Unconnected.
func Dial(ctx context.Context, opts Options) (*Client, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	c, err := withFiles(opts)
	if err != nil {
		return nil, err
	}
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.router = newRouter(c.member)
	c.servers = &pageServers{dial: c.newConn, roots: map[string]uint64{}}
	for _, addr := range opts.Addrs {
		m, err := c.member(addr)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.router.members = append(c.router.members, m)
	}
	first := c.router.members[0]
	c.router.current = first
	for _, addr := range splitAddrs(opts.PageAddr) {
		if addr == first.addr {
			c.servers.all = append(c.servers.all, &pageServer{addr: addr, conn: first.conn, pages: logcorev1.NewPageServiceClient(first.conn)})
		} else if _, err := c.servers.at(addr); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if opts.Unconnected {
		return c, nil
	}
	if err := c.connect(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// member prepares a member; its connection is made once it is used.
func (c *Client) member(addr string) (*member, error) {
	conn, err := c.newConn(addr)
	if err != nil {
		return nil, err
	}
	m := &member{addr: addr, conn: conn, logs: logcorev1.NewLogCoreServiceClient(conn), admin: logcorev1.NewAdminServiceClient(conn), archive: logcorev1.NewArchiveServiceClient(conn), history: logcorev1.NewHistoryServiceClient(conn), stripes: logcorev1.NewStripeServiceClient(conn)}
	m.appender = newAppender(c, m)
	return m, nil
}

// newConn prepares a connection; it stands once it is used.
func (c *Client) newConn(addr string) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	conf, err := c.tls(addr)
	if err != nil {
		return nil, err
	}
	if conf != nil {
		creds = credentials.NewTLS(conf)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: c.opts.DialTimeout,
		}),
		// The largest message is one entry of the largest size a server may be configured
		// to take; the server bounds what it sends.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.ForceCodecV2(wire.Codec{})),
		experimental.WithBufferPool(wire.Buffers),
		grpc.WithInitialWindowSize(4<<20),
		grpc.WithInitialConnWindowSize(8<<20),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("client: address %q: %w", addr, err)
	}
	return conn, nil
}

// connect waits until one member is connected, and begins with that one.
func (c *Client) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	members := c.router.all()
	ready := make(chan *member, len(members))
	var running sync.WaitGroup
	for _, m := range members {
		running.Go(func() {
			m.conn.Connect()
			for state := m.conn.GetState(); state != connectivity.Ready; state = m.conn.GetState() {
				if !m.conn.WaitForStateChange(ctx, state) {
					return
				}
			}
			ready <- m
			cancel() // one is enough
		})
	}
	running.Wait()
	select {
	case m := <-ready:
		c.router.leads(m)
		return nil
	default:
		return c.unreachable()
	}
}

// Close ends the connections. Writers must be closed before.
func (c *Client) Close() error {
	c.stop()
	c.running.Wait()
	var errs []error
	for _, m := range c.router.all() {
		errs = append(errs, m.conn.Close())
	}
	errs = append(errs, c.servers.close())
	return errors.Join(errs...)
}
