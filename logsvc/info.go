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
	if _, err := s.logByName(req.Log); err != nil {
		return nil, s.status(err, req.Log)
	}
	if s.opts.Archive == nil {
		return nil, status.Error(codes.FailedPrecondition, "logsvc: there is no archive to flush to: start the service with targets")
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	committed := s.group.Committed()
	if err := s.opts.Archive.Flush(ctx, s.group.Shard(), committed); err != nil {
		return nil, s.status(fmt.Errorf("flush up to LSN %d: %w", committed, err), req.Log)
	}
	return &logcorev1.FlushResponse{ArchivedLsn: uint64(s.archived())}, nil
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
	shard            logcore.ShardID
	archived, hotLSN logcore.LSN
}

func (s *Service) frame() frame {
	return frame{shard: s.group.Shard(), archived: s.archived(), hotLSN: s.group.HotLog().First()}
}

func (f frame) info(state *catalog.State, l *catalog.Log) *logcorev1.InfoResponse {
	resp := &logcorev1.InfoResponse{
		LogId: uint64(l.ID), Log: l.Name, Shard: uint32(f.shard), Epoch: uint64(l.Epoch),
		FirstLsn: uint64(l.FirstLSN()), LastLsn: uint64(l.LastLSN), LastTime: uint64(l.LastTime), CommittedLsn: uint64(state.LSN),
		ArchivedLsn: uint64(f.archived), HotFirstLsn: uint64(f.hotLSN), Entries: l.Entries, Bytes: l.Bytes,
		BranchLsn: uint64(l.BranchLSN), ParentId: uint64(l.Parent), Writer: l.Writer, Incarnation: state.Incarnation, PayloadFormat: l.PayloadFormat,
		Durability: durability(l.Durability), HorizonLsn: uint64(l.Horizon), WindowMs: l.WindowMs, WindowBytes: l.WindowBytes, WriterOpen: l.WriterOpen,
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
	resp := &logcorev1.CreateLogResponse{}
	if req.Parent == "" && req.BranchLsn != 0 {
		return nil, a.s.status(fmt.Errorf("%w: branch LSN %d without a parent", logcore.ErrInvalid, req.BranchLsn), req.Log)
	}
	about := req.Log
	err := a.s.do(ctx, func(p *replication.Proposer) error {
		c := catalog.Command{Op: catalog.OpCreate, Log: p.Catalog().NextLog(), Name: req.Log, LSN: logcore.LSN(req.BranchLsn)}
		if req.Parent != "" {
			parent, err := p.Catalog().ByName(req.Parent)
			if err != nil {
				about = req.Parent
				return err
			}
			c.Parent = parent.ID
		}
		switch req.Durability {
		case logcorev1.Durability_DURABILITY_UNSPECIFIED:
			if parent, err := p.Catalog().ByID(c.Parent); err == nil {
				c.Durability = parent.Durability
			}
		case logcorev1.Durability_DURABILITY_QUORUM:
		case logcorev1.Durability_DURABILITY_QUORUM_ARCHIVE:
			c.Durability = catalog.DurabilityArchive
		default:
			return fmt.Errorf("%w: durability %v", logcore.ErrInvalid, req.Durability)
		}
		if err := a.s.coverage.check(&catalog.Log{Name: req.Log, Durability: c.Durability}); err != nil {
			return err
		}
		if err := p.DiskFull(); err != nil {
			return err
		}
		_, err := p.Command(c)
		resp.LogId = uint64(c.Log)
		return err
	})
	if err != nil {
		return nil, a.s.status(err, about)
	}
	return resp, nil
}

// ListLogs implements logcorev1.AdminServiceServer: every log, by name.
func (a admin) ListLogs(ctx context.Context, _ *logcorev1.ListLogsRequest) (*logcorev1.ListLogsResponse, error) {
	if err := a.s.fresh(ctx, 0); err != nil {
		return nil, a.s.status(err, "")
	}
	resp := &logcorev1.ListLogsResponse{}
	f := a.s.frame()
	a.s.group.View(func(state *catalog.State) {
		for _, l := range state.Logs() {
			info := f.info(state, l)
			info.Ingest = a.s.debts.of(l)
			resp.Logs = append(resp.Logs, info)
		}
	})
	slices.SortFunc(resp.Logs, func(x, y *logcorev1.InfoResponse) int { return strings.Compare(x.Log, y.Log) })
	return resp, nil
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
	s := a.s
	g := s.group.Status()
	shard := &logcorev1.ShardStatus{Shard: uint32(s.group.Shard()), Term: g.Term, FirstLsn: uint64(g.First), LastLsn: uint64(g.Last),
		CommittedLsn: uint64(g.Committed), ArchivedLsn: uint64(s.archived())}
	for _, seg := range s.group.HotLog().Segments() {
		shard.Segments++
		shard.HotBytes += uint64(seg.Bytes)
	}
	resp := &logcorev1.StatusResponse{Cluster: s.opts.Cluster, Version: s.opts.Version, Shards: []*logcorev1.ShardStatus{shard},
		Corruptions: s.opts.Corruptions(), UptimeMs: uint64(sinceMilliseconds(s.started))}
	s.group.View(func(state *catalog.State) { resp.Logs = uint64(state.Len()) })
	problem := func(format string, args ...any) { resp.Problems = append(resp.Problems, fmt.Sprintf(format, args...)) }
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
		resp.Problems = append(resp.Problems, st.Problems...)
	}
	resp.Healthy = len(resp.Problems) == 0
	return resp, nil
}
