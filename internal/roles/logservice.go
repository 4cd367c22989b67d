package roles

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/node"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
)

// leadWithin bounds how long a shard may take to get its leader at the start.
const leadWithin = 60 * time.Second

// logService is the log service without its listener. Build order, each on top of
// those before it; the group stops them in reverse:
//
//  1. targets and key    opened; a lost target is tolerated
//  2. identity           the directory's cluster against the targets' markers
//  3. hot log            recovered, repaired from the archive where it is corrupt; and
//     replication        the Raft group over it; a group of one leads before it returns, a
//     node of a cluster is connected with the others
//  4. archiver           reads committed spans of the hot log; in a cluster where the group is led
//  5. service            LogCoreService and AdminService
type logService struct {
	cfg      *config.LogService
	process  *process
	address  string // where its services are
	targets  *Targets
	keys     tiering.KeyProvider
	parts    []*shardPart // of every shard
	node     *node.Node   // nil when this is no node of a cluster
	joining  bool         // the directory is to become a node's of the peers' cluster
	shards   *logsvc.Shards
	identity cluster.Identity

	capabilities capabilities
	registering  sync.Mutex                    // held while a target is made known, or forgotten
	damage       damages                       // that the running hot logs found and that is not repaired
	mending      chan *logcore.CorruptionError // to mend
}

// shardPart is what the service has of one shard.
type shardPart struct {
	*logService
	id       logcore.ShardID
	group    *replication.Group
	archiver atomic.Pointer[tiering.Archiver] // nil while this member does not archive
	followed *followedArchive                 // of a node of a cluster; nil otherwise
}

// process is what the parts of one process share.
type process struct {
	group    *group
	log      *slog.Logger
	registry *prometheus.Registry
	corrupt  *prometheus.CounterVec
	version  string

	bucketsOnce sync.Once
	buckets     *bucket.Metrics // see bucketMetrics
}

func (s *logService) shardDir(shard logcore.ShardID) string {
	return filepath.Join(s.cfg.Dir, fmt.Sprintf("shard-%d", shard))
}

// buildLogService starts everything but the listener.
func buildLogService(ctx context.Context, p *process, cfg *config.LogService, address string) (*logService, error) {
	if cfg.Address != "" {
		address = cfg.Address
	}
	s := &logService{cfg: cfg, process: p, address: address, mending: make(chan *logcore.CorruptionError, mendQueueMax)}
	for _, step := range []struct {
		name  string
		start func(context.Context) error
	}{{"targets", s.openTargets}, {"peers", s.meetPeers}, {"cluster", s.identify}, {"hot log", s.openGroup}, {"archive", s.openService}} {
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
	} else {
		s.process.log.Warn("no targets: nothing is archived, and when this disk is lost everything is; set targets and key")
	}
	urls, err := changedTargets(s.cfg.Dir, s.cfg.Targets)
	if err != nil {
		return err
	}
	if s.targets, err = OpenTargets(ctx, urls, s.process.log); err != nil {
		return err
	}
	s.process.group.add("targets", func(context.Context) error { return s.targets.Close() })
	return nil
}

// harden puts metrics, a limit and retries around each target. The archiver tries again
// by itself, later and elsewhere, so that a call is not repeated here for long.
func (s *logService) harden() error {
	for i, t := range s.targets.All {
		if t.Bucket == nil {
			continue
		}
		b, err := s.hardened(t)
		if err != nil {
			return err
		}
		s.targets.All[i].Bucket = b
	}
	return nil
}

func (s *logService) hardened(t tiering.Target) (bucket.Bucket, error) {
	return bucket.Harden(t.Bucket, bucket.HardenOptions{Target: t.Name, Metrics: s.process.bucketMetrics(),
		Retry: bucket.RetryOptions{Attempts: 3, AttemptTimeout: 15 * time.Second, BackoffMax: time.Second}})
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
	if s.identity, err = identify(ctx, s.cfg.Dir, s.shardDir(0), s.targets, s.joining, s.process.log); err != nil {
		return err
	}
	if err := s.targets.follow(s.identity.ID); err != nil {
		return err
	}
	return s.harden()
}

func (s *logService) openService(ctx context.Context) error {
	var all []logsvc.Options
	for _, p := range s.parts {
		opts := logsvc.Options{Group: p.group, PageServerLease: s.cfg.PageServerLease, EntryBytesMax: int(s.cfg.EntryBytesMax), HotBytesKeep: int64(s.cfg.HotBytesKeep), Cluster: s.identity.ID.String(),
			Version: s.process.version, Corruptions: func() uint64 { return total(s.process.corrupt) }, Logger: s.process.log, Registerer: s.registry(p.id)}
		if s.node != nil {
			opts.Membership, opts.AddressOf = s.node, s.node.Address
			var err error
			if opts.LeaderCerts, err = s.leaderCerts(); err != nil {
				return err
			}
		}
		switch {
		case len(s.targets.All) == 0:
		case s.node != nil:
			p.followed = p.followArchive()
			opts.Archive = p.followed
		default:
			a, err := p.openArchive(ctx)
			if err != nil {
				return err
			}
			opts.Archive = a
		}
		all = append(all, opts)
	}
	shards, err := logsvc.NewShards(all...)
	if err != nil {
		return err
	}
	s.shards = shards
	s.process.group.add("log service", func(context.Context) error { return shards.Close() })
	return nil
}

// openArchive starts the archiver of a group of one.
func (p *shardPart) openArchive(ctx context.Context) (*archive, error) {
	a, stop, err := p.startArchiver(ctx, p.process.registry, func(err error) { p.process.group.fail("archive", err) })
	if err != nil {
		return nil, err
	}
	p.process.group.add("archiver", func(context.Context) error {
		stop()
		return nil
	})
	return a, nil
}

// startArchiver starts an archiver; stop ends it and waits for it. Its fencing token is the Raft term: whoever
// leads later archives under a higher one. failed is told when it ends by itself.
func (p *shardPart) startArchiver(ctx context.Context, registry prometheus.Registerer, failed func(error)) (_ *archive, stop func(), err error) {
	source, status := &hotSource{group: p.group}, p.group.Status()
	memory := max(int64(p.cfg.ArchiveMemoryBytes)/int64(len(p.parts)), archiveMemoryMin)
	a, err := tiering.Open(ctx, tiering.Options{Cluster: p.identity.ID, Shard: p.id, Epoch: status.Term,
		Incarnation: status.Incarnation, Supersedes: p.identity.Supersedes, Targets: p.targets.now(), Keys: p.keys,
		Content: content{shard: p.id, view: p.group.View}, ProbeLock: probeLock,
		Source: source, MaxAge: p.cfg.ArchiveMaxAge, MemoryMax: memory, Compression: tiering.Compression(p.cfg.ArchiveCompression), Logger: p.process.log, Registerer: registry,
		Corruptions: p.process.corrupt.WithLabelValues("fragment"), ManifestCorruptions: p.process.corrupt.WithLabelValues("manifest")})
	if err != nil {
		return nil, nil, p.targets.Explain(err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(run); err != nil {
			failed(err)
		}
	}()
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		if p.id == 0 { // the targets are the same for every shard
			p.capabilities.probe(run, a.Targets)
		}
	}()
	out := &archive{part: p, archiver: a, source: source}
	p.archiver.Store(a)
	return out, func() {
		p.archiver.CompareAndSwap(a, nil)
		cancel()
		<-done
		<-probed
	}, nil
}

// archiveMemoryMin is the least that one shard's archiver gets of the memory for all.
const archiveMemoryMin = 16 << 20

// problems says in words what is wrong, for /healthz.
func (s *logService) problems() []string {
	for _, p := range s.parts {
		if err := p.group.Err(); err != nil {
			return []string{err.Error()}
		}
		if p.group.Leader() == 0 && len(s.parts) == 1 {
			return []string{"the shard has no leader"}
		}
		if p.group.Leader() == 0 {
			return []string{fmt.Sprintf("shard %d has no leader", p.id)}
		}
	}
	return s.damage.list()
}

// register adds the services to a gRPC server.
func (s *logService) register(srv *grpc.Server) {
	s.shards.Register(srv)
	logcorev1.RegisterArchiveServiceServer(srv, archiveService{s: s})
}
