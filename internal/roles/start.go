package roles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	postgres "github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/node"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/pageserver"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// StartLogService starts the log service role. A node of a cluster survives a failed write or sync: it closes its logs and opens them
// again. So does one that gets more shards.
func StartLogService(ctx context.Context, cfg *config.LogService, version string, log *slog.Logger) (Running, error) {
	first, err := startLogService(ctx, cfg, version, log)
	if err != nil || cfg.PeerListen == "" {
		return first, err
	}
	again := *cfg
	again.Listen = first.Addr()
	if m := first.(*role).MetricsAddr(); m != "" {
		again.Metrics = m
	}
	return newReopening(first, log, func(ctx context.Context, why error) (Running, error) {
		var more *node.MoreShards
		if errors.As(why, &more) {
			again.Shards = more.Shards
		}
		return startLogService(ctx, &again, version, log)
	}), nil
}

func startLogService(ctx context.Context, cfg *config.LogService, version string, log *slog.Logger) (Running, error) {
	return start(ctx, log, version, cfg.Listen, cfg.Metrics, func(ctx context.Context, p *process, b *building) error {
		s, err := buildLogService(ctx, p, cfg, b.listener.Addr().String())
		if err != nil {
			return err
		}
		srv, err := newServer(cfg.TLS, p.log, int(cfg.EntryBytesMax))
		if err != nil {
			return err
		}
		s.register(srv)
		serve(p.group, srv, b.listener)
		b.healthy = s.problems
		return nil
	})
}

// StartPageServer starts the page server role on the log service at cfg.LogService.
func StartPageServer(ctx context.Context, cfg *config.PageServer, version string, log *slog.Logger) (Running, error) {
	return start(ctx, log, version, cfg.Listen, cfg.Metrics, func(ctx context.Context, p *process, b *building) error {
		pages, err := buildPageServer(ctx, p, cfg, b.listener.Addr())
		if err != nil {
			return err
		}
		srv, err := newServer(cfg.TLS, p.log, 0)
		if err != nil {
			return err
		}
		pages.Register(srv)
		h := health.NewServer()
		healthv1.RegisterHealthServer(srv, h)
		h.SetServingStatus(logcorev1.PageService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
		serve(p.group, srv, b.listener)
		return nil
	})
}

// DevOptions configures StartDev.
type DevOptions struct {
	Dir DevDir
	// Prepare, when given, makes Dir. It is called once the settings and the ports are
	// known to be good: a start that is refused for them leaves nothing behind.
	Prepare func(context.Context) (DevDir, error)
	Targets []string // those that Prepare is to use, to be checked before; nil for its own choice
	Listen  string
	Metrics string // empty for none
	Config  config.LogService
	Version string
	Logger  *slog.Logger
}

// devCheckpointInterval: someone who tries things should not wait.
const devCheckpointInterval = 10 * time.Second

// StartDev starts both roles in one process on one port. The page server follows the
// log through that port like any other client, so that what is tried here is what
// runs apart elsewhere.
func StartDev(ctx context.Context, o DevOptions) (Running, error) {
	for name, addr := range map[string]string{"--listen": o.Listen, "--metrics": o.Metrics} {
		if addr == "" && name == "--metrics" {
			continue
		}
		if err := requireLoopback(name, addr); err != nil {
			return nil, err
		}
	}
	cfg := o.Config
	cfg.Dir, cfg.Key, cfg.Targets = "chosen later", "chosen later", o.Targets
	if bad := cfg.Validate(); len(bad) > 0 {
		return nil, &config.Error{Problems: bad}
	}
	return start(ctx, o.Logger, o.Version, o.Listen, o.Metrics, func(ctx context.Context, p *process, b *building) (err error) {
		if o.Prepare != nil {
			if o.Dir, err = o.Prepare(ctx); err != nil {
				return err
			}
		}
		cfg.Dir, cfg.Key, cfg.Targets = o.Dir.LogServiceDir(), o.Dir.Key, o.Dir.Targets
		if bad := cfg.Validate(); len(bad) > 0 {
			return &config.Error{Problems: bad}
		}
		s, err := buildLogService(ctx, p, &cfg, b.listener.Addr().String())
		if err != nil {
			return err
		}
		srv := grpc.NewServer(logsvc.ServerOptions(int(cfg.EntryBytesMax))...)
		s.register(srv)
		late := &latePages{}
		logcorev1.RegisterPageServiceServer(srv, late)
		serve(p.group, srv, b.listener)
		pcfg := config.DefaultPageServer()
		pcfg.Dir, pcfg.LogService = o.Dir.PageServerDir(), b.listener.Addr().String()
		pcfg.CheckpointTarget, pcfg.Key, pcfg.CheckpointInterval = homeTarget(o.Dir.Targets), o.Dir.Key, devCheckpointInterval
		pages, err := buildPageServer(ctx, p, pcfg, b.listener.Addr())
		if err != nil {
			return err
		}
		pages.Register(late)
		s.shards.Service(0).Health().SetServingStatus(logcorev1.PageService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
		b.healthy = s.problems
		return nil
	})
}

// payloadFormats are the payloads that a page server can decode.
func payloadFormats() *engine.Mux { return engine.NewMux(pages.Format(), postgres.Format()) }

// buildPageServer connects to the log service and starts a page server that follows it.
func buildPageServer(ctx context.Context, p *process, cfg *config.PageServer, listener net.Addr) (pageService, error) {
	// A follow must end with its connection: the page server asks for the incarnation
	// before it follows again, since a restored service may answer at the same address.
	// With an archive or a store of its own it has something to serve before the log service answers.
	c, err := client.Dial(ctx, client.Options{Addr: cfg.LogService, TLSFiles: logServiceTLS(cfg), Logger: p.log, RetryFor: time.Millisecond, Unconnected: len(cfg.Targets) > 0 || hasStore(cfg.Dir)})
	if err != nil {
		return nil, fmt.Errorf("log_service: %w", err)
	}
	p.group.add("log service connection", func(context.Context) error { return c.Close() })
	checkpoints, err := openCheckpoints(ctx, p, cfg, c)
	if err != nil {
		return nil, fmt.Errorf("checkpoint_target: %w", err)
	}
	archive, err := openPageArchive(ctx, p, cfg, c)
	if err != nil {
		return nil, fmt.Errorf("targets: %w", err)
	}
	srv, err := openPages(cfg, c, pageserver.Options{Dir: cfg.Dir, Archive: archive, ArchiveAfterBytes: int64(cfg.ArchiveAfterBytes), CheckpointInterval: cfg.CheckpointInterval, Source: logSource{c}, Keeper: newHistoryKeeper(c), Formats: payloadFormats(), Logger: p.log, Registerer: p.registry,
		Corruptions: p.corrupt.WithLabelValues("pageserver"), PageCacheBytes: int64(cfg.CacheBytes) / 2, BlockCacheBytes: int64(cfg.CacheBytes) / 2}, checkpoints, listener)
	if err != nil {
		return nil, fmt.Errorf("page server: %w", err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Run(run); err != nil {
			p.group.fail("page server", err)
		}
	}()
	p.group.add("page server", func(context.Context) error {
		cancel()
		<-done
		return srv.Close()
	})
	return srv, nil
}

// start does what every role begins and ends with: the listeners first, so that a port
// in use is found before anything is touched; the parts that build makes; and the
// metrics. When something fails, what was started is stopped.
func start(ctx context.Context, log *slog.Logger, version, listenAddr, metricsAddr string, build func(context.Context, *process, *building) error) (Running, error) {
	p := newProcess(log, version)
	l, err := listen("listen", listenAddr)
	if err != nil {
		return nil, err
	}
	r := &role{process: p, addr: l.Addr().String()}
	var m net.Listener
	if metricsAddr != "" {
		if m, err = listen("metrics", metricsAddr); err != nil {
			l.Close()
			return nil, err
		}
		r.metrics = m.Addr().String()
	}
	b := &building{listener: l, healthy: func() []string { return nil }}
	if err := build(ctx, p, b); err != nil {
		// Closing the listener again does no harm when a server has it.
		err = errors.Join(err, p.group.stop())
		l.Close()
		if m != nil {
			m.Close()
		}
		return nil, exit.With(exit.Of(err), fmt.Errorf("can't start: %w", err))
	}
	if m != nil {
		serveHTTP(p.group, m, p.registry, func(context.Context) []string { return b.healthy() })
	}
	return r, nil
}

// building is what build gets and what it leaves.
type building struct {
	listener net.Listener
	healthy  func() []string
}
