// Package certs keeps certificates from PEM files, read again when a file changes, and makes TLS configurations of them:
// for nodes of a cluster, which are server and client to each other, for services and for their clients. Connections are
// TLS 1.3. Plain text is for loopback addresses; Loopback says which those are.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/logcore/logcore"
)

// Files are PEM files. Cert is the own certificate, with what leads up to the CA, Key its key, CA the CAs that the other
// side's certificate must come from.
type Files struct {
	Cert, Key, CA string
}

// SystemRoots as Files.CA stands for the CAs that the operating system trusts.
const SystemRoots = "system"

// Use is what certificates are for.
type Use int

const (
	// Node is both ends of a connection between equals: all three files are required, and every certificate must be good for
	// server and client authentication.
	Node Use = iota
	// Server is a service: Cert and Key are required. With a CA, clients must show a certificate that comes from it.
	Server
	// Client is a client: CA is required; Cert and Key are for services that demand a certificate.
	Client
)

// Options says which certificates to load.
type Options struct {
	Files
	Use Use
	// Now is the clock that validity is held against; nil means time.Now.
	Now func() time.Time
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Certificates are those of one end of connections, as the files have them. They may be used by many goroutines.
type Certificates struct {
	opts Options

	mu      sync.Mutex
	looked  time.Time    // guarded by mu, as all below
	stamps  [3]time.Time // of the files when they were read
	current loaded
}

type loaded struct {
	cert tls.Certificate // empty when there is none
	pool *x509.CertPool  // nil: the system's
}

// lookEvery is how often the files are asked whether they changed.
const lookEvery = time.Second

// Load reads the files. A certificate that is expired, does not belong to the key, is not good for its use, or, of a node or
// client, does not come from the CA, is refused, with an error that wraps logcore.ErrInvalid.
func Load(o Options) (*Certificates, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case (o.Cert == "") != (o.Key == ""):
		return nil, fmt.Errorf("%w: a certificate and its key belong together: certificate %q, key %q", logcore.ErrInvalid, o.Cert, o.Key)
	case o.Use != Client && o.Cert == "":
		return nil, fmt.Errorf("%w: a certificate and its key are required", logcore.ErrInvalid)
	case o.Use != Server && o.CA == "":
		return nil, fmt.Errorf("%w: the CA that the other side's certificate comes from is required", logcore.ErrInvalid)
	}
	c := &Certificates{opts: o, looked: time.Now()}
	var err error
	if c.stamps, err = o.stamps(); err != nil {
		return nil, err
	}
	c.current, err = o.load()
	return c, err
}

func (f Files) stamps() (s [3]time.Time, err error) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		if path == "" || path == SystemRoots {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return s, fmt.Errorf("certificates: %w", err)
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

func (o Options) load() (l loaded, err error) {
	if o.CA != "" && o.CA != SystemRoots {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return l, fmt.Errorf("certificates: %w", err)
		}
		l.pool = x509.NewCertPool()
		if !l.pool.AppendCertsFromPEM(pem) {
			return l, fmt.Errorf("%w: %s holds no certificate", logcore.ErrInvalid, o.CA)
		}
	}
	if o.Cert == "" {
		return l, nil
	}
	if l.cert, err = tls.LoadX509KeyPair(o.Cert, o.Key); err != nil {
		return l, fmt.Errorf("%w: certificate %s with key %s: %w", logcore.ErrInvalid, o.Cert, o.Key, err)
	}
	chain := make([]*x509.Certificate, 0, len(l.cert.Certificate))
	for _, der := range l.cert.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return l, fmt.Errorf("%w: %s: %w", logcore.ErrInvalid, o.Cert, err)
		}
		chain = append(chain, cert)
	}
	if err := o.checkOwn(chain, l.pool); err != nil {
		return l, fmt.Errorf("%w: %s: %w", logcore.ErrInvalid, o.Cert, err)
	}
	return l, nil
}

// checkOwn checks the own certificate. Who issued that of a service is up to its clients; the CA there is for theirs.
func (o Options) checkOwn(chain []*x509.Certificate, pool *x509.CertPool) error {
	switch o.Use {
	case Server:
		if err := inTime(chain[0], o.Now()); err != nil {
			return err
		}
		if uses := chain[0].ExtKeyUsage; len(uses) > 0 && !hasUse(uses, x509.ExtKeyUsageServerAuth) {
			return errors.New("the certificate is not good for server authentication")
		}
		return nil
	case Client:
		return inTime(chain[0], o.Now())
	}
	return verify(chain, pool, "", o.Now(), x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

func hasUse(uses []x509.ExtKeyUsage, use x509.ExtKeyUsage) bool {
	for _, u := range uses {
		if u == use || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

func inTime(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("the certificate expired on %s", cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate is valid only from %s on", cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// verify checks a chain, the leaf first, for each use, and for a host when one is given.
func verify(chain []*x509.Certificate, pool *x509.CertPool, host string, now time.Time, uses ...x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	if err := inTime(chain[0], now); err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, use := range uses {
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return err
		}
	}
	return nil
}

// now returns the certificates as the files are. Files that can't be used now are said so, once a look, and
// what was read before stays.
func (c *Certificates) now() loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.current
	}
	c.looked = time.Now()
	stamps, err := c.opts.stamps()
	if err == nil && stamps == c.stamps {
		return c.current
	}
	var fresh loaded
	if err == nil {
		fresh, err = c.opts.load()
	}
	if err != nil {
		c.opts.Logger.Warn("certificates: the files changed and can't be used; the ones read before stay in use", "err", err)
		return c.current
	}
	c.stamps, c.current = stamps, fresh
	c.opts.Logger.Info("certificates: read again", "cert", c.opts.Cert, "ca", c.opts.CA)
	return c.current
}

// Server returns the configuration of the end that listens.
func (c *Certificates) Server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		l := c.now()
		conf := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{l.cert}, NextProtos: []string{"h2"}}
		if c.opts.CA != "" {
			conf.ClientCAs, conf.ClientAuth = l.pool, tls.RequireAndVerifyClientCert
		}
		return conf, nil
	}}
}

// Client returns the configuration of the end that dials host, a name or an IP address. The library's own verification can't be
// given other CAs later, so it is done here, with the same rules.
func (c *Certificates) Client(host string) *tls.Config {
	uses := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if c.opts.Use == Node {
		uses = append(uses, x509.ExtKeyUsageClientAuth)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			l := c.now()
			return &l.cert, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			return c.explain(verify(s.PeerCertificates, c.now().pool, host, c.opts.Now(), uses...), host)
		}}
}

// explain says what is wrong with the certificate of a host.
func (c *Certificates) explain(err error, host string) error {
	var authority x509.UnknownAuthorityError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &authority):
		return fmt.Errorf("certificate of %s: it does not come from a CA in %s: %w", host, c.opts.CA, err)
	}
	return fmt.Errorf("certificate of %s: %w", host, err)
}

// Loopback reports whether an address, HOST:PORT or HOST, is one of this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
