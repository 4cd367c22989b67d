package roles

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

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

// repair reads every byte of the hot log, which nobody has open, and repairs it from the
// other members or the archive. The one finding that Open met is counted already.
func (s *logService) repair(ctx context.Context) error {
	opts := recovery.RepairOptions{Dir: s.shardDir(), Shard: shard, Archive: s.openReader, Logger: s.process.log}
	if s.cfg.PeerListen != "" {
		certificates, err := s.certificates()
		if err != nil {
			return err
		}
		opts.Peers = func(ctx context.Context, from, to logcore.LSN) iter.Seq2[segment.Span, error] {
			return node.Spans(ctx, node.JoinOptions{Log: s.hotLog(), Peers: s.cfg.Peers, Certificates: certificates}, s.identity.ID, from, to)
		}
	}
	report, err := recovery.RepairHotLog(ctx, opts)
	s.process.corrupt.WithLabelValues("hotlog").Add(float64(max(len(report.Damage)-1, 0)))
	if err == nil {
		s.process.log.Info("hot log repaired", "bytes", report.Bytes, "repaired_segments", len(report.Repaired))
	}
	return err
}

func (s *logService) openReader(ctx context.Context) (*tiering.Reader, error) {
	if len(s.targets.All) == 0 {
		return nil, errors.New("there is no archive: no targets are configured")
	}
	r, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: s.targets.All, Keys: s.keys, Cluster: s.identity.ID, Shard: shard, Logger: s.process.log,
		Corruptions: s.process.corrupt.WithLabelValues("fragment"), ManifestCorruptions: s.process.corrupt.WithLabelValues("manifest")})
	return r, s.targets.Explain(err)
}

func (s *logService) openGroup(ctx context.Context) error {
	var g *replication.Group
	err := s.openOrRepair(ctx, func() (err error) {
		g, err = s.replicate(ctx)
		return err
	})
	if err != nil {
		return err
	}
	s.group = g
	closeGroup := g.Close
	if s.node != nil {
		closeGroup = s.node.Close
	}
	background, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.watch(background) })
	running.Go(func() { s.mend(background) })
	s.process.group.add("replication", func(context.Context) error {
		stop()
		running.Wait()
		return closeGroup()
	})
	return nil
}

// replicate opens the hot log and the Raft group over it. A group of one leads then.
func (s *logService) replicate(ctx context.Context) (*replication.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, leadWithin)
	defer cancel()
	if s.cfg.PeerListen != "" {
		return s.replicateInCluster(ctx)
	}
	return replication.Open(ctx, replication.Options{Log: s.hotLog()})
}

func (s *logService) hotLog() hotlog.Options {
	return hotlog.Options{
		Dir: s.shardDir(), Shard: shard, SegmentBytes: int64(s.cfg.SegmentBytes), EntryBytesMax: int(s.cfg.EntryBytesMax) + logsvc.EntryOverheadMax,
		CacheBytes: int64(s.cfg.CacheBytes), QueueBytesMax: int64(s.cfg.QueueBytesMax), DiskReserveBytes: int64(s.cfg.DiskReserveBytes),
		Logger: s.process.log, Registerer: s.process.registry, Corruptions: s.process.corrupt.WithLabelValues("hotlog"), OnDamage: s.damaged,
	}
}

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
