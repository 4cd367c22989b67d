package roles

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	"github.com/logcore/logcore/pageserver/stripe"
)

// pageService is a page server as far as its process is concerned: one that has all pages,
// or one that shares them with others.
type pageService interface {
	Register(grpc.ServiceRegistrar)
	Run(context.Context) error
	Close() error
}

// openPages opens a page server of its kind. checkpoints is nil when none are kept.
func openPages(cfg *config.PageServer, c *client.Client, opts pageserver.Options, checkpoints *checkpoint.Options, listener net.Addr) (pageService, error) {
	if cfg.Advertise == "" {
		if checkpoints != nil {
			checkpoints.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"store": cfg.CheckpointName}, checkpoints.Registerer)
			r, err := checkpoint.New(*checkpoints)
			if err != nil {
				return nil, err
			}
			opts.Checkpoints = r
		}
		return pageserver.Open(opts)
	}
	var family *checkpoint.Family
	if checkpoints != nil {
		var err error
		if family, err = checkpoint.NewFamily(*checkpoints); err != nil {
			return nil, err
		}
	}
	address, err := advertised(cfg.Advertise, listener)
	if err != nil {
		return nil, err
	}
	return stripe.Open(stripe.Options{Dir: cfg.Dir, Address: address, Coordinator: stripeMap{c}, Checkpoints: family, Server: opts, Logger: opts.Logger})
}

// advertised is the address to tell clients: a port of 0 is the listener's.
func advertised(address string, listener net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("advertise: %w", err)
	}
	if port == "0" {
		if _, port, err = net.SplitHostPort(listener.String()); err != nil {
			return "", fmt.Errorf("advertise: %w", err)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// reportTimeout bounds one report: page servers go on without.
const reportTimeout = 2 * time.Second

// stripeMap is the log service as package stripe sees it.
type stripeMap struct{ c *client.Client }

var _ stripe.Coordinator = stripeMap{}

// Report implements stripe.Coordinator.
func (s stripeMap) Report(ctx context.Context, r stripe.Report) (stripe.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	id, m, lease, err := s.c.ReportPageServer(ctx, client.PageServerReport{ID: r.ID, Address: r.Address, Ready: r.Ready, Empty: r.Empty})
	if err != nil {
		return stripe.Answer{}, err
	}
	return stripe.Answer{ID: id, Map: m.Map, Lease: lease}, nil
}
