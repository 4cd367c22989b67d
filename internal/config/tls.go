package config

import "github.com/logcore/logcore/internal/certs"

// TLS secures a gRPC listener. Without a certificate only loopback addresses are served.
type TLS struct {
	// Cert and Key are PEM files: the service's certificate and its key.
	Cert, Key string
	// CA is a PEM file with the CAs that clients' certificates, and those of the other members, come from.
	CA string
	// Clients says whether clients must show a certificate: "certificate" or "any".
	Clients string
}

func defaultTLS() TLS { return TLS{Clients: clientsCertified} }

const (
	clientsCertified = "certificate"
	clientsAny       = "any"
)

func (c *TLS) fields() []Field {
	return []Field{
		{"tls_cert", "certificate of the gRPC service, a PEM file, read again when it changes; without one only loopback addresses are served", String(&c.Cert)},
		{"tls_key", "key of tls_cert, a PEM file", String(&c.Key)},
		{"tls_ca", "CA that the certificates of clients and of the other members come from, a PEM file; with it clients must show one", String(&c.CA)},
		{"tls_clients", "whether clients must show a certificate where there is a tls_ca: certificate, or any", String(&c.Clients)},
	}
}

// Server returns the files for the listener.
func (c *TLS) Server() certs.Files {
	f := certs.Files{Cert: c.Cert, Key: c.Key, CA: c.CA}
	if c.Clients == clientsAny {
		f.CA = ""
	}
	return f
}

// tls checks the settings for a listener at an address.
func (c *checks) tls(t TLS, addr string) {
	if (t.Cert == "") != (t.Key == "") {
		c.add("tls_cert", "tls_cert and tls_key belong together: give both or none")
	}
	if t.CA != "" && t.Cert == "" {
		c.add("tls_ca", "goes with tls_cert and tls_key: give them too")
	}
	if t.Clients != clientsCertified && t.Clients != clientsAny {
		c.add("tls_clients", "%q: want %s or %s", t.Clients, clientsCertified, clientsAny)
	}
	if t.Cert == "" && addr != "" && !certs.Loopback(addr) {
		c.add("listen", "%q is not a loopback address, and plain text is for those only: set tls_cert and tls_key", addr)
	}
}
