package logsvc

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// Service serves the logs of one shard, and as the first of a process's Shards the requests for all of them.
type Service struct {
	opts    Options
	group   *replication.Group
	shards  *Shards // this one among the process's others
	log     *slog.Logger
	metrics *metrics
	health  *health.Server
	started time.Time
	budget  *budget
	// coverage waits for the archive.
	coverage *coverage

	// leases is touched by Prepare functions only, which run on the group's loop.
	leases leases
	// pageServers is touched there too.
	pageServers pageServers

	tail  *tail
	debts *debts
	// freshAt is when a quorum last said that this member knew everything, in nanoseconds
	// since started.
	freshAt atomic.Int64
	leader  leaderConn
	load    load

	// running counts the service's goroutines; stop ends them and every stream.
	running sync.WaitGroup
	stop    context.CancelFunc
	stopped context.Context
}

// New returns a service over the one group of a process and starts its housekeeping. Close it before the group.
func New(opts Options) (*Service, error) {
	sh, err := NewShards(opts)
	if err != nil {
		return nil, err
	}
	return sh.all[0], nil
}

// newService returns a service that does nothing yet.
func newService(opts Options) (*Service, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Service{opts: opts, group: opts.Group, log: opts.Logger, health: health.NewServer(), started: time.Now(), budget: newBudget(opts.StagedBytesMax),
		leases: leases{duration: opts.Lease, now: time.Now}, leader: leaderConn{certs: opts.LeaderCerts}, pageServers: pageServers{duration: opts.PageServerLease, now: time.Now}}
	var err error
	if s.metrics, err = newMetrics(opts.Registerer, opts.Group, s.budget); err != nil {
		return nil, err
	}
	s.tail, s.debts = newTail(s), newDebts()
	s.freshAt.Store(-1 << 62) // never
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.coverage = newCoverage(s)
	return s, nil
}

// start begins what a service does by itself.
func (s *Service) start() {
	s.setHealth()
	s.running.Go(s.housekeep)
	if s.opts.Archive != nil {
		s.running.Go(func() { s.coverage.run(s.stopped) })
	}
}

// ServerOptions returns the options a gRPC server needs to serve entries of up to
// entryBytesMax bytes (0 means EntryBytesMaxDefault) at speed. They bound what a
// client can have the server hold: one message of the largest size for each call that is
// being received, and the flow control windows of each call and connection. What was received is bounded for all
// clients together by Options.StagedBytesMax.
func ServerOptions(entryBytesMax int) []grpc.ServerOption {
	if entryBytesMax == 0 {
		entryBytesMax = EntryBytesMaxDefault
	}
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.Codec{}), // AppendLogs needs it
		experimental.BufferPool(wire.Buffers),
		// One entry of the largest size, or several smaller ones: clients send about 1 MiB a message.
		grpc.MaxRecvMsgSize(entryBytesMax + messageOverheadMax),
		grpc.MaxConcurrentStreams(streamsMax),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.InitialWindowSize(1 << 20), // gRPC widens it for a longer message while that is received
		grpc.InitialConnWindowSize(16 << 20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
}

// Register registers the services, health included: for all shards that the service was joined with.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	logcorev1.RegisterLogCoreServiceServer(r, front{sh: s.shards})
	logcorev1.RegisterAdminServiceServer(r, admin{s: s.shards.all[0]})
	logcorev1.RegisterHistoryServiceServer(r, historyFront{sh: s.shards})
	logcorev1.RegisterStripeServiceServer(r, stripes{s: s.shards.all[0]})
	healthv1.RegisterHealthServer(r, s.health)
}

// Health returns the health server, so that other services of the process can show
// theirs.
func (s *Service) Health() *health.Server { return s.health }

// Close ends every stream and the housekeeping, and waits for them. Stop the gRPC
// server's new calls first, or after; the group stays open.
func (s *Service) Close() error {
	s.stop()
	s.health.Shutdown()
	s.running.Wait()
	s.leader.close()
	s.metrics.unregister()
	return nil
}

// within returns ctx, ended also when the service closes.
func (s *Service) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(s.stopped, func() { cancel(fmt.Errorf("logsvc: %w", logcore.ErrClosed)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// logByName returns a copy of what the applied catalog says of a log. A member that does
// not lead says who does when it does not know the log: it may be behind.
func (s *Service) logByName(name string) (l catalog.Log, err error) {
	s.group.View(func(state *catalog.State) {
		var found *catalog.Log
		if found, err = state.ByName(name); err == nil {
			l = *found
		}
	})
	if err != nil {
		if elsewhere := s.still(s.stopped, 0, name); elsewhere != nil {
			err = elsewhere
		}
	}
	return l, err
}

// housekeep trims the hot tier, ends leases and keeps the health up to date.
func (s *Service) housekeep() {
	tick := time.NewTicker(s.opts.TrimEvery)
	defer tick.Stop()
	var folded uint64
	for {
		select {
		case <-s.stopped.Done():
			return
		case <-tick.C:
		}
		s.setHealth()
		s.group.View(func(state *catalog.State) { folded = state.Folded() })
		s.load.measure(folded, time.Now())
		if err := s.TrimHot(); err != nil {
			s.log.Error("logsvc: the hot tier was not trimmed", "err", err)
		}
		if err := s.endLeases(s.stopped); err != nil && s.stopped.Err() == nil {
			s.log.Warn("logsvc: read leases that ran out were not ended; tried again", "err", err)
		}
	}
}

func (s *Service) setHealth() {
	state := healthv1.HealthCheckResponse_SERVING
	for _, shard := range s.shards.all {
		if shard.group.Err() != nil || shard.group.Leader() == 0 {
			state = healthv1.HealthCheckResponse_NOT_SERVING
		}
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(logcorev1.LogCoreService_ServiceDesc.ServiceName, state)
	s.health.SetServingStatus(logcorev1.AdminService_ServiceDesc.ServiceName, state)
}
