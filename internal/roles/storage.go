package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/tiering"
)

// watchEvery is how often the group is asked whether it still writes. Waiting for its
// changes instead would wake somebody at every commit.
const watchEvery = 100 * time.Millisecond

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

// hotDamage says what rotted in the hot log since it was opened.
func (s *logService) hotDamage() []string {
	if e := s.damage.Load(); e != nil {
		return []string{fmt.Sprintf("the hot log is damaged: %v: it is repaired from the archive at the next start", e)}
	}
	return nil
}
