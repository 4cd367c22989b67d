package roles

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/node"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/tiering"
)

// watchEvery is how often the group is asked whether it still writes. Waiting for its
// changes instead would wake somebody at every commit.
const watchEvery = 100 * time.Millisecond

// repair reads every byte of the hot logs, which nobody has open, and repairs them from the
// other members or the archive. The one finding that Open met is counted already.
func (s *logService) repair(ctx context.Context) error {
	damage := 0
	for shard := range node.PresentShards(s.cfg.Dir) {
		report, err := s.repairShard(ctx, logcore.ShardID(shard))
		damage += len(report.Damage)
		if err != nil {
			s.process.corrupt.WithLabelValues("hotlog").Add(float64(max(damage-1, 0)))
			return err
		}
		s.process.log.Info("hot log repaired", "shard", shard, "bytes", report.Bytes, "repaired_segments", len(report.Repaired))
	}
	s.process.corrupt.WithLabelValues("hotlog").Add(float64(max(damage-1, 0)))
	return nil
}

func (s *logService) repairShard(ctx context.Context, shard logcore.ShardID) (recovery.RepairReport, error) {
	p := &shardPart{logService: s, id: shard}
	opts := recovery.RepairOptions{Dir: s.shardDir(shard), Shard: shard, Archive: p.openReader, Logger: s.process.log}
	if s.cfg.PeerListen != "" {
		certificates, err := s.certificates()
		if err != nil {
			return recovery.RepairReport{}, err
		}
		opts.Peers = func(ctx context.Context, from, to logcore.LSN) iter.Seq2[segment.Span, error] {
			return node.Spans(ctx, node.JoinOptions{Log: s.hotLog(shard), Peers: s.cfg.Peers, Certificates: certificates}, s.identity.ID, from, to)
		}
	}
	return recovery.RepairHotLog(ctx, opts)
}

func (p *shardPart) openReader(ctx context.Context) (*tiering.Reader, error) {
	if len(p.targets.now()) == 0 {
		return nil, errors.New("there is no archive: no targets are configured")
	}
	r, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: p.targets.now(), Keys: p.keys, Cluster: p.identity.ID, Shard: p.id, Logger: p.process.log,
		Corruptions: p.process.corrupt.WithLabelValues("fragment"), ManifestCorruptions: p.process.corrupt.WithLabelValues("manifest")})
	return r, p.targets.Explain(err)
}

func (s *logService) openGroup(ctx context.Context) error {
	var groups []*replication.Group
	err := s.openOrRepair(ctx, func() (err error) {
		groups, err = s.replicate(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for i, g := range groups {
		s.parts = append(s.parts, &shardPart{logService: s, id: logcore.ShardID(i), group: g})
	}
	closeGroups := func() error {
		var errs []error
		for _, g := range groups {
			errs = append(errs, g.Close())
		}
		return errors.Join(errs...)
	}
	if s.node != nil {
		closeGroups = s.node.Close
	}
	background, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.watch(background) })
	running.Go(func() { s.mend(background) })
	s.process.group.add("replication", func(context.Context) error {
		stop()
		running.Wait()
		return closeGroups()
	})
	return nil
}

// replicate opens the hot logs and the Raft groups over them. A group of one leads then.
func (s *logService) replicate(ctx context.Context) ([]*replication.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, leadWithin)
	defer cancel()
	if s.cfg.PeerListen != "" {
		return s.replicateInCluster(ctx)
	}
	return node.OpenGroups(ctx, node.GroupsOptions{Log: s.hotLog, Shards: s.cfg.Shards, Logger: s.process.log})
}

func (s *logService) hotLog(shard logcore.ShardID) hotlog.Options {
	return hotlog.Options{
		Dir: s.shardDir(shard), Shard: shard, SegmentBytes: int64(s.cfg.SegmentBytes), EntryBytesMax: int(s.cfg.EntryBytesMax) + logsvc.EntryOverheadMax,
		CacheBytes: max(int64(s.cfg.CacheBytes)/int64(s.shardsExpected()), cacheBytesMin), QueueBytesMax: int64(s.cfg.QueueBytesMax), DiskReserveBytes: int64(s.cfg.DiskReserveBytes),
		Logger: s.process.log, Registerer: s.registry(shard), Corruptions: s.process.corrupt.WithLabelValues("hotlog"), OnDamage: s.damaged,
	}
}

// cacheBytesMin is the least that one shard gets of the memory for recent entries.
const cacheBytesMin = 1 << 20

// shardsExpected is how many shards there are or are to be.
func (s *logService) shardsExpected() int {
	return max(s.cfg.Shards, node.PresentShards(s.cfg.Dir))
}

// registry is where a shard's metrics go. With one shard they are as they would be without any; with several each
// has its shard as a label.
func (s *logService) registry(shard logcore.ShardID) prometheus.Registerer {
	if s.shardsExpected() == 1 {
		return s.process.registry
	}
	return &shardRegistry{Registerer: s.process.registry, labels: prometheus.Labels{"shard": fmt.Sprint(shard)}}
}

// watch ends the process when a group can't write any more: what the disk really
// holds is found out by opening it again.
func (s *logService) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		for _, p := range s.parts {
			if err := p.group.Err(); err != nil {
				s.process.group.fail("log", fmt.Errorf("shard %d: %w", p.id, err))
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
