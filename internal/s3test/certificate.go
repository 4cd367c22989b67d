package s3test

import (
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/certs/certstest"
)

// certificatesGood is longer than any run.
const certificatesGood = 7 * 24 * time.Hour

// certificates are the files of an authority made for one run.
type certificates struct {
	ca        string // the authority's certificate
	cert, key string // the server's, for 127.0.0.1, ::1 and localhost

	authority *x509.CertPool // what ca holds
}

// MakeCA makes a certificate authority with one server certificate for loopback in dir
// and returns the file of the authority's certificate. Tests use it for an authority
// that no gateway has.
func MakeCA(dir string) (caFile string, err error) {
	files, err := makeCertificates(dir)
	return files.ca, err
}

func makeCertificates(dir string) (certificates, error) {
	files := certificates{ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "server.pem"), key: filepath.Join(dir, "server-key.pem"), authority: x509.NewCertPool()}
	authority, err := certstest.NewAuthority()
	if err != nil {
		return files, err
	}
	files.authority.AppendCertsFromPEM(authority.PEM)
	return files, authority.IssueAs(certs.Files{Cert: files.cert, Key: files.key, CA: files.ca}, certificatesGood, "127.0.0.1", "::1", "localhost")
}
