package logsvc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// Flush implements logcorev1.LogCoreServiceServer.
func (s *Service) Flush(ctx context.Context, req *logcorev1.FlushRequest) (*logcorev1.FlushResponse, error) {
	l, err := s.logByName(req.Log)
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	if s.opts.Archive == nil {
		return nil, status.Error(codes.FailedPrecondition, "logsvc: there is no archive to flush to: start the service with targets")
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.flushedBefore(ctx, req.Log); err != nil {
		return nil, s.status(err, req.Log)
	}
	committed := s.group.Committed()
	if err := s.opts.Archive.Flush(ctx, s.group.Shard(), committed); err != nil {
		return nil, s.status(fmt.Errorf("flush up to LSN %d: %w", committed, err), req.Log)
	}
	return &logcorev1.FlushResponse{ArchivedLsn: uint64(s.archivedOf(&l))}, nil
}

// archivedOf returns up to which LSN all of a log's own entries are archived, wherever they are.
func (s *Service) archivedOf(l *catalog.Log) logcore.LSN {
	for _, e := range l.Extents {
		if at := s.of(e.Shard).archived(); at < e.Index(e.Last) {
			return at + e.Base
		}
	}
	return max(s.archived()+l.Base, l.PlacedLSN)
}

// flushedBefore returns once what a log has in other shards is archived, which their archivers see to.
func (s *Service) flushedBefore(ctx context.Context, log string) error {
	v, err := s.lineage(log)
	if err != nil {
		return err
	}
	for i, e := range v.chain[:max(len(v.chain)-1, 0)] {
		for other := v.services[i]; other.archived() < e.Index(e.Last); {
			select {
			case <-time.After(coveragePoll):
			case <-ctx.Done():
				return fmt.Errorf("LSN %d in shard %d: %w", e.Last, e.Shard, context.Cause(ctx))
			}
		}
	}
	return nil
}

func (s *Service) archived() logcore.LSN {
	if s.opts.Archive == nil {
		return 0
	}
	return s.opts.Archive.Covered(s.group.Shard())
}

// Truncate implements logcorev1.LogCoreServiceServer. Truncating below what was
// already given up changes nothing.
func (s *Service) Truncate(ctx context.Context, req *logcorev1.TruncateRequest) (*logcorev1.TruncateResponse, error) {
	resp := &logcorev1.TruncateResponse{}
	err := s.do(ctx, func(p *replication.Proposer) error {
		l, err := p.Catalog().ByName(req.Log)
		if err != nil {
			return err
		}
		if before := logcore.LSN(req.BeforeLsn); before > l.FirstLSN() {
			_, err = p.Command(catalog.Command{Op: catalog.OpTruncate, Log: l.ID, LSN: before})
		} else {
			p.WaitFor(p.Catalog().LSN)
		}
		resp.FirstLsn = uint64(l.FirstLSN())
		return err
	})
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	return resp, nil
}

// Info implements logcorev1.LogCoreServiceServer.
func (s *Service) Info(ctx context.Context, req *logcorev1.InfoRequest) (resp *logcorev1.InfoResponse, err error) {
	if err := s.freshFor(ctx, time.Duration(req.MaxStalenessMs)*time.Millisecond, req.Log); err != nil {
		return nil, s.status(err, req.Log)
	}
	f := s.frame()
	s.group.View(func(state *catalog.State) {
		var l *catalog.Log
		if l, err = state.ByName(req.Log); err == nil {
			resp = f.info(state, l)
			resp.Ingest = s.debts.of(l)
		}
	})
	return resp, s.status(err, req.Log)
}

// frame is what the descriptions of all logs of the shard share.
type frame struct {
	s                *Service
	shard            logcore.ShardID
	archived, hotLSN logcore.LSN
}

func (s *Service) frame() frame {
	return frame{s: s, shard: s.group.Shard(), archived: s.archived(), hotLSN: s.group.HotLog().First()}
}

func (f frame) info(state *catalog.State, l *catalog.Log) *logcorev1.InfoResponse {
	committed := state.LSN + l.Base
	if l.Gone {
		committed = l.LeftLSN // what comes behind is elsewhere
	}
	resp := &logcorev1.InfoResponse{
		LogId: uint64(l.ID), Log: l.Name, Shard: uint32(f.shard), Epoch: uint64(l.Epoch),
		FirstLsn: uint64(l.FirstLSN()), LastLsn: uint64(l.LastLSN), LastTime: uint64(l.LastTime), CommittedLsn: uint64(committed),
		ArchivedLsn: uint64(f.s.archivedOf(l)), HotFirstLsn: uint64(f.hotLSN + l.Base), Entries: l.Entries, Bytes: l.Bytes,
		BranchLsn: uint64(l.BranchLSN), ParentId: uint64(l.Parent), Writer: l.Writer, Incarnation: state.Incarnation, PayloadFormat: l.PayloadFormat,
		Durability: durability(l.Durability), BaseLsn: uint64(l.Base), HorizonLsn: uint64(l.Horizon), WindowMs: l.WindowMs, WindowBytes: l.WindowBytes, WriterOpen: l.WriterOpen,
	}
	for _, e := range l.Extents {
		resp.Extents = append(resp.Extents, &logcorev1.LogExtent{Shard: uint32(e.Shard), FirstLsn: uint64(e.First), LastLsn: uint64(e.Last)})
	}
	if parent, err := state.ByID(l.Parent); err == nil {
		resp.Parent = parent.Name
	}
	return resp
}

func durability(d catalog.Durability) logcorev1.Durability {
	if d == catalog.DurabilityArchive {
		return logcorev1.Durability_DURABILITY_QUORUM_ARCHIVE
	}
	return logcorev1.Durability_DURABILITY_QUORUM
}

// admin serves AdminService. It is a type of its own, because both services would
// embed their own forward-compatible base.
type admin struct {
	logcorev1.UnimplementedAdminServiceServer
	s *Service
}

// CreateLog implements logcorev1.AdminServiceServer.
func (a admin) CreateLog(ctx context.Context, req *logcorev1.CreateLogRequest) (*logcorev1.CreateLogResponse, error) {
	id, err := a.s.shards.create(ctx, req)
	if err != nil {
		about := req.Log
		var other *aboutError
		if errors.As(err, &other) {
			about = other.log
		}
		return nil, a.s.status(err, about)
	}
	return &logcorev1.CreateLogResponse{LogId: uint64(id)}, nil
}

// ListLogs implements logcorev1.AdminServiceServer: every log, by name. The list is complete; of logs in shards
// that are led elsewhere it says what this member knows.
func (a admin) ListLogs(ctx context.Context, _ *logcorev1.ListLogsRequest) (*logcorev1.ListLogsResponse, error) {
	if err := a.s.fresh(ctx, 0); err != nil {
		return nil, a.s.status(err, "")
	}
	resp := &logcorev1.ListLogsResponse{}
	listed, names := map[string]bool{}, map[uint64]string{}
	for _, s := range a.s.shards.all {
		f := s.frame()
		s.group.View(func(state *catalog.State) {
			for _, l := range state.Logs() {
				names[uint64(l.ID)] = l.Name
				if !l.Gone && !listed[l.Name] {
					listed[l.Name] = true
					info := f.info(state, l)
					info.Ingest = s.debts.of(l)
					resp.Logs = append(resp.Logs, info)
				}
			}
		})
	}
	var placed []catalog.Placement
	a.s.group.View(func(state *catalog.State) { placed = state.Placements() })
	for _, p := range placed {
		if listed[p.Name] || p.Creating {
			continue
		}
		if info := a.s.shards.between(p); info != nil {
			resp.Logs = append(resp.Logs, info)
		}
	}
	for _, l := range resp.Logs {
		if l.Parent == "" && l.ParentId != 0 {
			l.Parent = names[l.ParentId]
		}
	}
	slices.SortFunc(resp.Logs, func(x, y *logcorev1.InfoResponse) int { return strings.Compare(x.Log, y.Log) })
	return resp, nil
}

// between describes a log of the directory that this member knows in none of the shards: as it left the last one if it is on
// its way, else by its name alone; nil if it was deleted.
func (sh *Shards) between(p catalog.Placement) (info *logcorev1.InfoResponse) {
	moves := uint64(0)
	for _, s := range sh.all {
		f := s.frame()
		s.group.View(func(state *catalog.State) {
			l, ok := state.Named(p.Name)
			if !ok || state.Root(l).Name != p.Root {
				return
			}
			if gen := state.Root(l).Gen; info == nil || gen >= moves {
				info, moves = f.info(state, l), gen
			}
		})
	}
	if info != nil {
		return info
	}
	if at := p.At(); p.Settled() && int64(at) < int64(len(sh.all)) && sh.all[at].knows(p.Name).index >= p.Seen {
		return nil
	}
	info = &logcorev1.InfoResponse{Log: p.Name, Shard: uint32(p.At()), Durability: durability(p.Durability)}
	sh.all[0].group.View(func(state *catalog.State) { info.Incarnation = state.Incarnation })
	return info
}

// ListTargets implements logcorev1.AdminServiceServer.
func (a admin) ListTargets(ctx context.Context, _ *logcorev1.ListTargetsRequest) (*logcorev1.ListTargetsResponse, error) {
	resp := &logcorev1.ListTargetsResponse{}
	if a.s.opts.Archive == nil {
		return resp, nil
	}
	targets, err := a.s.opts.Archive.Targets(ctx)
	if err != nil {
		return nil, a.s.status(err, "")
	}
	for _, t := range targets {
		resp.Targets = append(resp.Targets, &logcorev1.Target{Name: t.Name, Url: t.URL, Provider: t.Provider, Region: t.Region,
			Healthy: t.Healthy, Error: t.Error, Fragments: t.Fragments, Bytes: t.Bytes, Capabilities: t.Capabilities})
	}
	return resp, nil
}

// Status implements logcorev1.AdminServiceServer.
func (a admin) Status(context.Context, *logcorev1.StatusRequest) (*logcorev1.StatusResponse, error) {
	resp := &logcorev1.StatusResponse{Cluster: a.s.opts.Cluster, Version: a.s.opts.Version,
		Corruptions: a.s.opts.Corruptions(), UptimeMs: uint64(sinceMilliseconds(a.s.started))}
	var decided []map[string]string
	for _, s := range a.s.shards.all {
		decided = append(decided, s.shardStatus(resp))
	}
	resp.Problems = append(resp.Problems, differing(decided)...)
	resp.Healthy = len(resp.Problems) == 0
	return resp, nil
}

// shardStatus adds what there is to say of the shard, and returns what is decided about its archive; nil when that is not known.
func (s *Service) shardStatus(resp *logcorev1.StatusResponse) (decided map[string]string) {
	g := s.group.Status()
	shard := &logcorev1.ShardStatus{Shard: uint32(s.group.Shard()), Term: g.Term, FirstLsn: uint64(g.First), LastLsn: uint64(g.Last),
		CommittedLsn: uint64(g.Committed), ArchivedLsn: uint64(s.archived()), Leader: g.Leader, LoadBytes: uint64(s.load.now())}
	resp.Shards = append(resp.Shards, shard)
	for _, seg := range s.group.HotLog().Segments() {
		shard.Segments++
		shard.HotBytes += uint64(seg.Bytes)
	}
	s.group.View(func(state *catalog.State) { shard.Logs = uint64(state.Len()) })
	resp.Logs += shard.Logs
	problem := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if !slices.Contains(resp.Problems, text) { // what is wrong with the archive is so for every shard
			resp.Problems = append(resp.Problems, text)
		}
	}
	if g.Err != nil {
		shard.Error = g.Err.Error()
		problem("shard %d: %v", shard.Shard, g.Err)
		if errors.Is(g.Err, logcore.ErrPoisoned) {
			problem("shard %d takes no appends until the service is restarted; reads go on", shard.Shard)
		}
	} else if g.Stalled != nil {
		shard.Error = g.Stalled.Error()
		problem("shard %d: what was proposed waits for room on the disk: %v", shard.Shard, g.Stalled)
	} else if g.Leader == 0 {
		problem("shard %d has no leader", shard.Shard)
	}
	if used, limit := s.group.HotLog().Pressure(); used >= limit {
		problem("shard %d: the hot log uses %d bytes of the %d it may: appends are refused until the archive catches up", shard.Shard, used, limit)
	}
	if s.opts.Archive != nil {
		st := s.opts.Archive.Status(s.group.Shard())
		shard.ArchiveLagMs = uint64(st.Lag.Milliseconds())
		for _, text := range st.Problems {
			problem("%s", text)
		}
		decided = st.Decided
	}
	return decided
}
