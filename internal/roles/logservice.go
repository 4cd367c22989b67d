package roles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
)

// leadWithin bounds how long a shard may take to get its leader at the start.
const leadWithin = 60 * time.Second

// shard is the one there is.
const shard logcore.ShardID = 0

// logService is the log service without its listener. Build order, each on top of
// those before it; the group stops them in reverse:
//
//  1. targets and key    opened; a lost target is tolerated
//  2. identity           the directory's cluster against the targets' markers
//  3. hot log            checked, repaired from the archive where it is corrupt
//  4. replication        the Raft group over it; leads before it returns
//  5. archiver           reads committed spans of the hot log
//  6. service            LogCoreService and AdminService
type logService struct {
	cfg     *config.LogService
	process *process
	targets *Targets
	keys    tiering.KeyProvider
	group   *replication.Group
	service *logsvc.Service
	cluster [16]byte
	damage  atomic.Pointer[logcore.CorruptionError] // the newest that the running hot log found
}

// process is what the parts of one process share.
type process struct {
	group    *group
	log      *slog.Logger
	registry *prometheus.Registry
	corrupt  *prometheus.CounterVec
	version  string
}

func (s *logService) shardDir() string {
	return filepath.Join(s.cfg.Dir, fmt.Sprintf("shard-%d", shard))
}

// buildLogService starts everything but the listener.
func buildLogService(ctx context.Context, p *process, cfg *config.LogService) (*logService, error) {
	s := &logService{cfg: cfg, process: p}
	for _, step := range []struct {
		name  string
		start func(context.Context) error
	}{{"targets", s.openTargets}, {"cluster", s.identify}, {"hot log", s.repair}, {"replication", s.openGroup}, {"archive", s.openService}} {
		if err := step.start(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return s, nil
}

func (s *logService) openTargets(ctx context.Context) (err error) {
	if len(s.cfg.Targets) > 0 {
		if s.keys, err = tiering.LoadKeyFile(s.cfg.Key); err != nil {
			return err
		}
	}
	if s.targets, err = OpenTargets(ctx, s.cfg.Targets, s.process.log); err != nil {
		return err
	}
	s.process.group.add("targets", func(context.Context) error { return s.targets.Close() })
	return nil
}

// harden puts metrics, a limit and retries around each target. The archiver tries again
// by itself, later and elsewhere, so that a call is not repeated here for long.
func (s *logService) harden() error {
	m := bucket.NewMetrics(s.process.registry)
	for i, t := range s.targets.All {
		if t.Bucket == nil {
			continue
		}
		b, err := bucket.Harden(t.Bucket, bucket.HardenOptions{Target: t.Name, Metrics: m,
			Retry: bucket.RetryOptions{Attempts: 3, AttemptTimeout: 15 * time.Second, BackoffMax: time.Second}})
		if err != nil {
			return err
		}
		s.targets.All[i].Bucket = b
	}
	return nil
}

func (s *logService) identify(ctx context.Context) error {
	repaired, err := RepairMarkers(ctx, s.targets)
	if err != nil {
		s.process.log.Warn("a damaged target marker was not repaired", "err", err)
	}
	for _, name := range repaired {
		s.process.corrupt.WithLabelValues("manifest").Inc()
		s.process.log.Warn("a target's marker was damaged; written again", "target", name)
	}
	id, err := identify(ctx, s.cfg.Dir, s.shardDir(), s.targets, s.process.log)
	if err != nil {
		return err
	}
	s.cluster = id
	s.targets.reopen(id)
	return s.harden()
}

// repair reads every byte of the hot log before anything is served from it. Without an
// archive damage can only be refused.
func (s *logService) repair(ctx context.Context) error {
	if hasLog, err := holdsFiles(s.shardDir()); err != nil || !hasLog {
		return err
	}
	report, err := recovery.RepairHotLog(ctx, recovery.RepairOptions{Dir: s.shardDir(), Shard: shard, Archive: s.openReader, Logger: s.process.log})
	s.process.corrupt.WithLabelValues("hotlog").Add(float64(len(report.Damage)))
	if err == nil {
		s.process.log.Info("hot log checked", "bytes", report.Bytes, "repaired_segments", len(report.Repaired))
	}
	return err
}

func (s *logService) openReader(ctx context.Context) (*tiering.Reader, error) {
	if len(s.targets.All) == 0 {
		return nil, errors.New("there is no archive: no targets are configured")
	}
	r, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: s.targets.All, Keys: s.keys, Cluster: s.cluster, Shard: shard, Logger: s.process.log,
		Corruptions: s.process.corrupt.WithLabelValues("fragment"), ManifestCorruptions: s.process.corrupt.WithLabelValues("manifest")})
	return r, s.targets.Explain(err)
}

func (s *logService) openGroup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadWithin)
	defer cancel()
	g, err := replication.Open(ctx, replication.Options{Log: hotlog.Options{
		Dir: s.shardDir(), Shard: shard, SegmentBytes: int64(s.cfg.SegmentBytes), EntryBytesMax: int(s.cfg.EntryBytesMax) + logsvc.EntryOverheadMax,
		CacheBytes: int64(s.cfg.CacheBytes), QueueBytesMax: int64(s.cfg.QueueBytesMax), DiskReserveBytes: int64(s.cfg.DiskReserveBytes),
		Logger: s.process.log, Registerer: s.process.registry, Corruptions: s.process.corrupt.WithLabelValues("hotlog"), OnDamage: func(e *logcore.CorruptionError) { s.damage.Store(e) },
	}})
	if err != nil {
		return err
	}
	s.group = g
	watch, stopWatching := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(watch)
	}()
	s.process.group.add("replication", func(context.Context) error {
		stopWatching()
		<-watched
		return g.Close()
	})
	return nil
}

// watchEvery is how often the group is asked whether it still writes. Waiting for its
// changes instead would wake somebody at every commit.
const watchEvery = 100 * time.Millisecond

// watch ends the process when the group can't write any more: what the disk really
// holds is found out by opening it again.
func (s *logService) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := s.group.Err(); err != nil {
			s.process.group.fail("log", err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *logService) openService(ctx context.Context) error {
	opts := logsvc.Options{Group: s.group, EntryBytesMax: int(s.cfg.EntryBytesMax), HotBytesKeep: int64(s.cfg.HotBytesKeep), Cluster: fmt.Sprintf("%x", s.cluster),
		Version: s.process.version, Corruptions: func() uint64 { return total(s.process.corrupt) }, Logger: s.process.log, Registerer: s.process.registry}
	if len(s.targets.All) > 0 {
		a, err := s.openArchive(ctx)
		if err != nil {
			return err
		}
		opts.Archive = a
	}
	service, err := logsvc.New(opts)
	if err != nil {
		return err
	}
	s.service = service
	s.process.group.add("log service", func(context.Context) error { return service.Close() })
	return nil
}

// openArchive starts the archiver. Its fencing token is the Raft term: whoever leads
// later archives under a higher one.
func (s *logService) openArchive(ctx context.Context) (*archive, error) {
	source := &hotSource{group: s.group}
	a, err := tiering.Open(ctx, tiering.Options{Cluster: s.cluster, Shard: shard, Epoch: s.group.Status().Term, Targets: s.targets.All, Keys: s.keys,
		Source: source, MaxAge: s.cfg.ArchiveMaxAge, Logger: s.process.log, Registerer: s.process.registry,
		Corruptions: s.process.corrupt.WithLabelValues("fragment"), ManifestCorruptions: s.process.corrupt.WithLabelValues("manifest")})
	if err != nil {
		return nil, s.targets.Explain(err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(run); err != nil {
			s.process.group.fail("archive", err)
		}
	}()
	s.process.group.add("archiver", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return &archive{archiver: a, source: source, hotDamage: s.hotDamage}, nil
}

// problems says in words what is wrong, for /healthz.
func (s *logService) problems() []string {
	if err := s.group.Err(); err != nil {
		return []string{err.Error()}
	}
	if !s.group.Status().Leading {
		return []string{"the shard has no leader"}
	}
	return s.hotDamage()
}

// hotDamage says what rotted in the hot log since it was opened.
func (s *logService) hotDamage() []string {
	if e := s.damage.Load(); e != nil {
		return []string{fmt.Sprintf("the hot log is damaged: %v: it is repaired from the archive at the next start", e)}
	}
	return nil
}

// register adds the services to a gRPC server.
func (s *logService) register(srv *grpc.Server) { s.service.Register(srv) }
