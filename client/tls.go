package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore/internal/certs"
)

// ErrInsecure: plain text is for loopback addresses only.
var ErrInsecure = errors.New("client: plain text is for loopback addresses only: name the CA of the service's certificate (Options.TLSFiles, --tls-ca, LOGCORE_TLS_CA)")

// ErrTLS: the two ends can't agree on TLS: a certificate expired, comes from another CA, names another host, or is missing, or one end speaks
// plain text. It wraps ErrUnavailable; the reason is in the text.
var ErrTLS = fmt.Errorf("%w: TLS", ErrUnavailable)

// tls returns the configuration for an address, nil for plain text.
func (c *Client) tls(addr string) (*tls.Config, error) {
	switch {
	case c.opts.TLS != nil:
		return c.opts.TLS, nil
	case c.certs != nil:
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("client: address %q: want HOST:PORT", addr)
		}
		return c.certs.Client(host), nil
	case !certs.Loopback(addr):
		return nil, fmt.Errorf("%w: %s", ErrInsecure, addr)
	}
	return nil, nil
}

// diagnoseWithin bounds the search for the reason why an address can't be reached.
const diagnoseWithin = time.Second

// unreachable says why no member was reached. gRPC tells only that a handshake failed, and late.
func (c *Client) unreachable() error {
	err := fmt.Errorf("%w at %s within %v: is it running, and is the address right?", ErrUnavailable, strings.Join(c.opts.Addrs, ", "), c.opts.DialTimeout)
	for _, m := range c.router.all() {
		conf, confErr := c.tls(m.addr)
		if confErr != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(c.ctx, diagnoseWithin)
		why := diagnose(ctx, m.addr, conf)
		cancel()
		if errors.Is(why, ErrTLS) {
			return why
		}
	}
	return err
}

// withFiles returns a client that is good for making connections.
func withFiles(opts Options) (*Client, error) {
	c := &Client{opts: opts.withDefaults()}
	if f := opts.TLSFiles; f != (TLSFiles{}) {
		var err error
		if c.certs, err = certs.Load(certs.Options{Files: certs.Files{Cert: f.Cert, Key: f.Key, CA: f.CA}, Use: certs.Client, Logger: c.opts.Logger}); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
	}
	return c, nil
}

// NewConn returns a connection to one address, secured as the options say, for calls of the API that Client does not have. Close it.
func NewConn(addr string, opts Options) (*grpc.ClientConn, error) {
	c, err := withFiles(opts)
	if err != nil {
		return nil, err
	}
	return c.newConn(addr)
}

// Diagnose says why the service at an address can't be talked to with the TLS that the options ask for, nil when it can or
// when that isn't the reason. It is for a person who waits: it makes one attempt.
func Diagnose(ctx context.Context, addr string, opts Options) error {
	c, err := withFiles(opts)
	if err != nil {
		return err
	}
	conf, err := c.tls(addr)
	if err != nil {
		return err
	}
	return diagnose(ctx, addr, conf)
}

// diagnose connects by hand.
func diagnose(ctx context.Context, addr string, conf *tls.Config) error {
	if conf == nil {
		if speaksTLS(ctx, addr) {
			return fmt.Errorf("%w at %s: the service speaks TLS: name the CA of its certificate (Options.TLSFiles, --tls-ca, LOGCORE_TLS_CA)", ErrTLS, addr)
		}
		return nil
	}
	conn, err := dialTLS(ctx, addr, conf)
	if err == nil {
		defer conn.Close()
		// In TLS 1.3 a server refuses a client's certificate behind the handshake.
		if _, err = conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
	}
	var record tls.RecordHeaderError
	var network *net.OpError
	switch text := err.Error(); {
	case errors.As(err, &record), errors.Is(err, io.EOF):
		return fmt.Errorf("%w at %s: the service speaks plain text, or is none: leave the TLS options out", ErrTLS, addr)
	case strings.Contains(text, "certificate required"):
		return fmt.Errorf("%w at %s: the service demands a certificate of its clients: give one and its key (Options.TLSFiles, --tls-cert, --tls-key)", ErrTLS, addr)
	case strings.Contains(text, "remote error: tls"):
		return fmt.Errorf("%w at %s: the service refuses the certificate that this client shows: %w", ErrTLS, addr, err)
	case errors.As(err, &network) && network.Op == "dial", ctx.Err() != nil:
		return nil // that is not about TLS
	}
	return fmt.Errorf("%w at %s: %w", ErrTLS, addr, err)
}

// dialTLS connects and shakes hands.
func dialTLS(ctx context.Context, addr string, conf *tls.Config) (*tls.Conn, error) {
	conf = conf.Clone()
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(addr)
	}
	conf.NextProtos = []string{"h2"}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline) // a socket that is open takes one
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// speaksTLS reports whether what listens at an address takes part in a TLS handshake, whatever its certificate.
func speaksTLS(ctx context.Context, addr string) bool {
	saw := false
	conn, err := dialTLS(ctx, addr, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
		saw = true
		return nil
	}})
	if err == nil {
		conn.Close()
	}
	return saw
}
