package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
)

const (
	defaultAddr    = "127.0.0.1:7420"
	defaultTimeout = 30 * time.Second
)

// connectFlags adds the flags of a command that talks to the service.
func (a *app) connectFlags(cmd *cobra.Command) {
	addr := a.getenv("LOGCORE_ADDR")
	if addr == "" {
		addr = defaultAddr
	}
	cmd.Flags().StringVar(&a.addr, "addr", addr, "address of the service (LOGCORE_ADDR)")
	cmd.Flags().StringVar(&a.pageAddr, "page-addr", a.getenv("LOGCORE_PAGE_ADDR"), "address of the page server, when it is a process of its own; otherwise that of --addr (LOGCORE_PAGE_ADDR)")
	cmd.Flags().StringVar(&a.tls.CA, "tls-ca", a.getenv("LOGCORE_TLS_CA"), "CA that the service's certificate comes from, a PEM file, or system; without it the connection is plain text, to a loopback address only (LOGCORE_TLS_CA)")
	cmd.Flags().StringVar(&a.tls.Cert, "tls-cert", a.getenv("LOGCORE_TLS_CERT"), "certificate for a service that demands one, a PEM file (LOGCORE_TLS_CERT)")
	cmd.Flags().StringVar(&a.tls.Key, "tls-key", a.getenv("LOGCORE_TLS_KEY"), "key of --tls-cert, a PEM file (LOGCORE_TLS_KEY)")
	cmd.Flags().DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for an answer")
}

// dial connects to --addr; --page-addr is connected to when pages are needed. The caller closes the client.
func (a *app) dial(ctx context.Context) (*client.Client, error) {
	wait := min(a.timeout, 5*time.Second)
	if err := a.reachable(ctx, a.addr, wait); err != nil {
		return nil, err
	}
	return client.Dial(ctx, client.Options{Addr: a.addr, PageAddr: a.pageAddr, TLSFiles: a.tls, Timeout: a.timeout, DialTimeout: wait, Logger: quiet(a)})
}

// answerSlack is what a server that waits for --timeout gets to say that it waited in vain.
const answerSlack = 2 * time.Second

// online runs f with a connection and a context that ends after --timeout.
func (a *app) online(ctx context.Context, f func(context.Context, *client.Client) error) error {
	return a.onlineFor(ctx, a.timeout, f)
}

func (a *app) onlineFor(ctx context.Context, timeout time.Duration, f func(context.Context, *client.Client) error) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx, c)
}

// reachable finds out why a service can't be reached: gRPC tells all causes alike, and
// late. It does not wait for one that is about to start: a person tries again.
func (a *app) reachable(ctx context.Context, addr string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return fmt.Errorf("%w: %q is not HOST:PORT, such as 127.0.0.1:7420", client.ErrUnavailable, addr)
	}
	opts := client.Options{Addr: addr, TLSFiles: a.tls, Logger: quiet(a)}
	made, err := client.NewConn(addr, opts)
	if err != nil {
		return err
	}
	made.Close()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
		return client.Diagnose(ctx, addr, opts)
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s: nothing listens there", client.ErrUnavailable, addr)
	case errors.As(err, &dns):
		return fmt.Errorf("%w at %s: no such host: %w", client.ErrUnavailable, addr, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w at %s: no answer: %w", client.ErrUnavailable, addr, err)
	}
	return fmt.Errorf("%w at %s: %w", client.ErrUnavailable, addr, err)
}
