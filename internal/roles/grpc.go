package roles

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/reflection"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/logsvc"
)

const drainWithin = 3 * time.Second

// newServer returns a gRPC server, with TLS where a certificate is configured.
func newServer(t config.TLS, log *slog.Logger, entryBytesMax int) (*grpc.Server, error) {
	opts := logsvc.ServerOptions(entryBytesMax)
	if t.Cert != "" {
		c, err := certs.Load(certs.Options{Files: t.Server(), Use: certs.Server, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("tls_cert: %w", err)
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(c.Server())))
	}
	return grpc.NewServer(opts...), nil
}

// leaderCerts are for the way from one member to the one that leads: the member's own certificate, and the CA of the others'.
func (s *logService) leaderCerts() (*certs.Certificates, error) {
	t := s.cfg.TLS
	if t.Cert == "" {
		return nil, nil
	}
	f := certs.Files{Cert: t.Cert, Key: t.Key, CA: t.CA}
	if f.CA == "" {
		f.CA = certs.SystemRoots
	}
	c, err := certs.Load(certs.Options{Files: f, Use: certs.Client, Logger: s.process.log})
	if err != nil {
		return nil, fmt.Errorf("tls_cert: %w", err)
	}
	return c, nil
}

// logServiceTLS is for the way from a page server to its log service.
func logServiceTLS(cfg *config.PageServer) client.TLSFiles {
	if cfg.LogServiceCA == "" {
		return client.TLSFiles{}
	}
	return client.TLSFiles{CA: cfg.LogServiceCA, Cert: cfg.TLS.Cert, Key: cfg.TLS.Key}
}

// serve adds reflection to srv and serves it on l until the group stops.
func serve(g *group, srv *grpc.Server, l net.Listener) {
	reflection.Register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); err != nil {
			g.fail("grpc", err)
		}
	}()
	g.add("grpc", func(context.Context) error {
		stopServer(srv)
		<-done
		return nil
	})
}

// stopServer lets calls in flight end for a moment; those that follow a log never
// end by themselves and are cut off.
func stopServer(srv *grpc.Server) {
	drained := make(chan struct{})
	go func() {
		srv.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainWithin):
		srv.Stop()
		<-drained
	}
}
