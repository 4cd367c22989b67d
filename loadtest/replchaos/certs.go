package replchaos

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/certs/certstest"
)

// makeCerts writes a CA, a certificate for each node, and one for the clients: what is not on one machine speaks TLS only.
func makeCerts(dir string) error {
	ca, err := certstest.NewAuthority()
	if err != nil {
		return err
	}
	for i := range nodes {
		if err := ca.IssueAs(files(dir, fmt.Sprint("node-", i)), 24*time.Hour, fmt.Sprintf("%s.%d", peerNet, 11+i), fmt.Sprintf("%s.%d", clientNet, 11+i)); err != nil {
			return err
		}
	}
	return ca.IssueAs(files(dir, "client"), 24*time.Hour, "client")
}

func files(dir, name string) certs.Files {
	return certs.Files{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key"), CA: filepath.Join(dir, "ca.pem")}
}

// clientOptions are how this process reaches the nodes.
func (w *world) clientOptions(addr string) client.Options {
	f := files(w.dir, "client")
	return client.Options{Addr: addr, TLSFiles: client.TLSFiles{CA: f.CA, Cert: f.Cert, Key: f.Key}}
}
