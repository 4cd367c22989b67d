package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// Client is the connection to a LogCore service, and a second one to its page server
// when that is a process of its own. It may be used by many goroutines.
type Client struct {
	opts  Options
	conns []*grpc.ClientConn
	logs  logcorev1.LogCoreServiceClient
	admin logcorev1.AdminServiceClient
	pages logcorev1.PageServiceClient
}

// Dial connects to the service and returns once the connection stands, or an error
// that wraps ErrUnavailable when it doesn't within Options.DialTimeout.
func Dial(ctx context.Context, opts Options) (*Client, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	conn, err := newConn(opts.Addr, opts)
	if err != nil {
		return nil, err
	}
	c := &Client{opts: opts, conns: []*grpc.ClientConn{conn},
		logs: logcorev1.NewLogCoreServiceClient(conn), admin: logcorev1.NewAdminServiceClient(conn)}
	if opts.PageAddr != opts.Addr {
		if conn, err = newConn(opts.PageAddr, opts); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.conns = append(c.conns, conn)
	}
	c.pages = logcorev1.NewPageServiceClient(conn)
	if err := connect(ctx, c.conns[0], opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// newConn prepares a connection; it stands once it is used.
func newConn(addr string, opts Options) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if opts.TLS != nil {
		creds = credentials.NewTLS(opts.TLS)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: opts.DialTimeout,
		}),
		// The largest message is one entry of the largest size a server may be configured
		// to take; the server bounds what it sends.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithInitialWindowSize(4<<20),
		grpc.WithInitialConnWindowSize(8<<20),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("client: address %q: %w", addr, err)
	}
	return conn, nil
}

func connect(ctx context.Context, conn *grpc.ClientConn, opts Options) error {
	ctx, cancel := context.WithTimeout(ctx, opts.DialTimeout)
	defer cancel()
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("%w at %s within %v: is it running, and is the address right?%s", ErrUnavailable, opts.Addr, opts.DialTimeout, tlsHint(opts.TLS))
		}
	}
}

func tlsHint(c *tls.Config) string {
	if c == nil {
		return ""
	}
	return " (with TLS)"
}

// Close ends the connections. Writers must be closed before.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
