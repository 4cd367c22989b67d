package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/logcore/logcore"
)

// CertificateFiles are PEM files: this node's certificate with what leads up to the CA, its key, and the
// CAs that other nodes' certificates must come from. The certificate is used on both ends of a
// connection, so it must be good for server and client authentication, and name the host that others dial.
type CertificateFiles struct {
	Cert, Key, CA string
}

// Certificates are a node's, read again when a file changes. They may be used by many goroutines.
type Certificates struct {
	files CertificateFiles
	log   *slog.Logger

	mu      sync.Mutex
	looked  time.Time    // guarded by mu, as all below
	stamps  [3]time.Time // of the files when they were read
	current loaded
}

type loaded struct {
	cert tls.Certificate
	pool *x509.CertPool
}

// lookEvery is how often the files are asked whether they changed.
const lookEvery = time.Second

// LoadCertificates reads the files. A certificate that is expired, does not belong to the key or does
// not come from the CA is refused, with an error that wraps logcore.ErrInvalid.
func LoadCertificates(files CertificateFiles, log *slog.Logger) (*Certificates, error) {
	if log == nil {
		log = slog.Default()
	}
	c := &Certificates{files: files, log: log}
	var err error
	if c.stamps, err = files.stamps(); err != nil {
		return nil, err
	}
	if c.current, err = files.load(time.Now()); err != nil {
		return nil, err
	}
	c.looked = time.Now()
	return c, nil
}

func (f CertificateFiles) stamps() (s [3]time.Time, err error) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		info, err := os.Stat(path)
		if err != nil {
			return s, fmt.Errorf("transport: %w", err)
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

func (f CertificateFiles) load(now time.Time) (l loaded, err error) {
	if l.cert, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return l, fmt.Errorf("%w: certificate %s with key %s: %w", logcore.ErrInvalid, f.Cert, f.Key, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return l, fmt.Errorf("transport: %w", err)
	}
	l.pool = x509.NewCertPool()
	if !l.pool.AppendCertsFromPEM(pem) {
		return l, fmt.Errorf("%w: %s holds no certificate", logcore.ErrInvalid, f.CA)
	}
	chain := make([]*x509.Certificate, 0, len(l.cert.Certificate))
	for _, der := range l.cert.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return l, fmt.Errorf("%w: %s: %w", logcore.ErrInvalid, f.Cert, err)
		}
		chain = append(chain, cert)
	}
	if err := verify(chain, l.pool, "", now); err != nil {
		return l, fmt.Errorf("%w: %s: %w", logcore.ErrInvalid, f.Cert, err)
	}
	return l, nil
}

// verify checks a chain, the leaf first, for both uses, and for a host when one is given.
func verify(chain []*x509.Certificate, pool *x509.CertPool, host string, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return err
		}
	}
	return nil
}

// now returns the certificates as the files are. Files that can't be used now are said so, once, and
// what was read before stays.
func (c *Certificates) now() loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.current
	}
	c.looked = time.Now()
	stamps, err := c.files.stamps()
	if err == nil && stamps == c.stamps {
		return c.current
	}
	var fresh loaded
	if err == nil {
		fresh, err = c.files.load(time.Now())
	}
	if err != nil {
		c.log.Warn("transport: the certificate files changed and can't be used; the ones read before stay in use", "err", err)
		return c.current
	}
	c.stamps, c.current = stamps, fresh
	c.log.Info("transport: certificates read again", "cert", c.files.Cert)
	return c.current
}

// server returns the configuration of the end that listens.
func (c *Certificates) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		l := c.now()
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{l.cert}, ClientCAs: l.pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}}, nil
	}}
}

// client returns the configuration of the end that dials host. The library's own verification can't be
// given another pool later, so it is done here, with the same rules.
func (c *Certificates) client(host string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			l := c.now()
			return &l.cert, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s.PeerCertificates, c.now().pool, host, time.Now())
		}}
}
