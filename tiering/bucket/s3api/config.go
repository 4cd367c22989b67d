// Package s3api is what the two S3 clients share because it belongs to the protocol,
// not to a client: the connection, the credentials, the meaning of status and error
// codes, and what a refused conditional put amounts to.
package s3api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// Config says which bucket to open and how. It is never printed whole: it holds the
// secret key.
type Config struct {
	Bucket      string // required
	Region      string // required: requests are signed for it
	Endpoint    string // https://HOST[:PORT]; empty means AWS
	CAFile      string // PEM file of the authorities to trust instead of the system's; empty means the system's
	Credentials Credentials
	// MultipartFrom is the size in bytes from which on objects go up in parts of PartBytes;
	// 0 means MultipartFromDefault and PartBytesDefault.
	MultipartFrom, PartBytes int
}

// WithDefaults fills in what is 0.
func (c Config) WithDefaults() Config {
	if c.MultipartFrom == 0 {
		c.MultipartFrom = MultipartFromDefault
	}
	if c.PartBytes == 0 {
		c.PartBytes = PartBytesDefault
	}
	return c
}

// Validate reports every bad field together. The error wraps bucket.ErrInvalid.
func (c Config) Validate() error {
	var bad []error
	if c.Bucket == "" {
		bad = append(bad, errors.New("bucket: required"))
	}
	if c.Region == "" {
		bad = append(bad, errors.New("region: required"))
	}
	if c.Endpoint != "" {
		if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad = append(bad, fmt.Errorf("endpoint %q: want https://HOST[:PORT]", c.Endpoint))
		}
	}
	if c.Credentials.AccessKey == "" || c.Credentials.SecretKey == "" {
		bad = append(bad, errors.New("credentials: required"))
	}
	if c.MultipartFrom < 0 || c.PartBytes != 0 && c.PartBytes < partBytesMin {
		bad = append(bad, fmt.Errorf("parts of %d bytes from %d on: want at least %d from 0", c.PartBytes, c.MultipartFrom, partBytesMin))
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w: %w", bucket.ErrInvalid, errors.Join(bad...))
	}
	return nil
}

// Secure reports whether the endpoint speaks TLS.
func (c Config) Secure() bool {
	return c.Endpoint == "" || len(c.Endpoint) > 5 && c.Endpoint[:6] == "https:"
}

// URL names the bucket for people: scheme://bucket, with the endpoint, without
// credentials.
func (c Config) URL(scheme string) string {
	if c.Endpoint == "" {
		return scheme + "://" + c.Bucket
	}
	return scheme + "://" + c.Bucket + "?endpoint=" + c.Endpoint
}

// The deadlines of a connection. A whole call is bounded by its context.
const (
	dialTimeout           = 5 * time.Second
	tlsTimeout            = 10 * time.Second
	responseHeaderTimeout = 60 * time.Second
	idleTimeout           = 90 * time.Second
	idleConnections       = 64
	continueTimeout       = 2 * time.Second
)

// expectBytesMin is the body from which on the provider is asked before it is sent. One
// that refuses, as for a conditional put, may else close the connection in the middle
// of the body, and its answer is lost in the reset.
const expectBytesMin = 64 << 10

// Connection is a bucket's own connection pool.
type Connection struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (c Connection) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.ContentLength >= expectBytesMin && r.Header.Get("Expect") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Expect", "100-continue") // after signing: it is no signed header
	}
	return c.Transport.RoundTrip(r)
}

// Connect makes the connection pool. Nothing is sent yet.
func (c Config) Connect() (Connection, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: responseHeaderTimeout,
		ExpectContinueTimeout: continueTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          idleConnections,
		MaxIdleConnsPerHost:   idleConnections,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CAFile == "" {
		return Connection{t}, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return Connection{}, fmt.Errorf("%w: CA file: %w", bucket.ErrInvalid, err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return Connection{}, fmt.Errorf("%w: CA file %s: no PEM certificate in it", bucket.ErrInvalid, c.CAFile)
	}
	return Connection{t}, nil
}
