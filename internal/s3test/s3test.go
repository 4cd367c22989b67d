// Package s3test starts real S3 servers, one process per "cloud", for the tests and for
// the demo: it builds the gateway of tools/s3gateway once, makes an authority and a
// server certificate for the run, and stops exactly what it started, also when the
// program that uses it is killed.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Options says which clouds to start.
type Options struct {
	// Dir keeps the objects, one directory a cloud, and the certificates. Required. It
	// may be the Dir of an earlier run: its objects are then served again.
	Dir string
	// Clouds are the names of the clouds. Required, at least one.
	Clouds []string
	// Buckets are made in every cloud; a bucket that exists is left.
	Buckets []string
	// LockedBuckets are made as Buckets are, with Object Lock.
	LockedBuckets []string
	// PlainHTTP serves without TLS.
	PlainHTTP bool
	// Links puts a Link before every cloud: what uses its Endpoint can be slowed down and
	// cut off.
	Links bool
	// ReadyTimeout bounds the start of one gateway; 0 means 30 s. Building the binary is
	// bounded by the context alone.
	ReadyTimeout time.Duration
	// Logger gets what happens; nil means slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	var bad []error
	if !filepath.IsAbs(o.Dir) {
		bad = append(bad, fmt.Errorf("option Dir %q: want an absolute path", o.Dir))
	}
	if len(o.Clouds) == 0 {
		bad = append(bad, errors.New("option Clouds: want at least one"))
	}
	if o.ReadyTimeout < 0 {
		bad = append(bad, fmt.Errorf("option ReadyTimeout %v: negative", o.ReadyTimeout))
	}
	if len(bad) > 0 {
		return fmt.Errorf("s3test: %w", errors.Join(bad...))
	}
	return nil
}

// Servers are the running clouds of one run.
type Servers struct {
	options   Options
	binary    string
	files     certificates
	accessKey string
	secretKey string
	clouds    []*Cloud
}

// Start builds the gateway when need be, starts one process for every cloud and makes
// the buckets. The gateways live until Close, or until the process ends, however it
// ends. Start ends with the context; the gateways don't.
func Start(ctx context.Context, options Options) (*Servers, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	binary, err := Binary(ctx)
	if err != nil {
		return nil, err
	}
	s := &Servers{options: options, binary: binary, accessKey: "logcore-test", secretKey: randomSecret()}
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, err
	}
	if s.files, err = makeCertificates(options.Dir); err != nil {
		return nil, err
	}
	credentials := fmt.Sprintf("access_key = %s\nsecret_key = %s\n", s.accessKey, s.secretKey)
	if err := os.WriteFile(s.CredentialsFile(), []byte(credentials), 0o600); err != nil {
		return nil, err
	}
	for _, name := range options.Clouds {
		c := &Cloud{Name: name, servers: s, listen: "127.0.0.1:0"}
		s.clouds = append(s.clouds, c)
		if err := c.start(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if options.Links {
			if c.link, err = newLink(c.address); err != nil {
				return nil, errors.Join(err, s.Close())
			}
		}
		if err := c.makeBuckets(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// CredentialsFile is a file for &credentials=FILE with the root credentials of every
// cloud of this run.
func (s *Servers) CredentialsFile() string { return filepath.Join(s.options.Dir, "credentials") }

// CAFile is the authority that signed the servers' certificate.
func (s *Servers) CAFile() string { return s.files.ca }

// Cloud returns the cloud of that name. It panics when there is none.
func (s *Servers) Cloud(name string) *Cloud {
	for _, c := range s.clouds {
		if c.Name == name {
			return c
		}
	}
	panic("s3test: no cloud " + name)
}

// Close stops every gateway and waits for it. The objects stay in Dir.
func (s *Servers) Close() error {
	var errs []error
	for _, c := range s.clouds {
		errs = append(errs, c.Kill())
		if c.link != nil {
			errs = append(errs, c.link.Close())
		}
	}
	return errors.Join(errs...)
}

// URL returns the target URL of a bucket in a cloud: scheme is s3 or minio, name the
// target's name. The provider is the cloud's name.
func (s *Servers) URL(scheme, cloud, bucket, name string) string {
	query := url.Values{
		"endpoint": {s.Cloud(cloud).Endpoint()}, "region": {region}, "name": {name}, "provider": {cloud},
		"credentials": {s.CredentialsFile()},
	}
	if !s.options.PlainHTTP {
		query.Set("ca", s.CAFile())
	}
	return scheme + "://" + bucket + "?" + query.Encode()
}

// region is what every gateway reports.
const region = "us-east-1"
