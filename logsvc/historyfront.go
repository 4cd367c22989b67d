package logsvc

import (
	"context"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// historyFront is HistoryService: it passes each request on to the shard of its log.
type historyFront struct {
	logcorev1.UnimplementedHistoryServiceServer
	sh *Shards
}

func (f historyFront) at(log string) (histories, error) {
	s, err := f.sh.find(log)
	if err != nil {
		return histories{}, f.sh.all[0].status(err, log)
	}
	return histories{s: s}, nil
}

// settled is at for what may take a branch's name away: not before the directory knows that it is there.
func (f historyFront) settled(branch string) (histories, error) {
	h, err := f.at(branch)
	if err == nil && len(f.sh.all) > 1 && h.s != f.sh.all[0] {
		if p := f.sh.all[0].placement(branch); p.Name == "" || !p.Settled() {
			err = f.sh.all[0].status(&logcore.MovedError{Log: branch, Shard: h.s.group.Shard()}, branch)
		}
	}
	return h, err
}

// DeleteBranch implements logcorev1.HistoryServiceServer.
func (f historyFront) DeleteBranch(ctx context.Context, req *logcorev1.DeleteBranchRequest) (*logcorev1.DeleteBranchResponse, error) {
	h, err := f.settled(req.Branch)
	if err != nil {
		return nil, err
	}
	return h.DeleteBranch(ctx, req)
}

// ResetBranch implements logcorev1.HistoryServiceServer.
func (f historyFront) ResetBranch(ctx context.Context, req *logcorev1.ResetBranchRequest) (*logcorev1.ResetBranchResponse, error) {
	h, err := f.settled(req.Branch)
	if err != nil {
		return nil, err
	}
	return h.ResetBranch(ctx, req)
}

// SetHistoryWindow implements logcorev1.HistoryServiceServer.
func (f historyFront) SetHistoryWindow(ctx context.Context, req *logcorev1.SetHistoryWindowRequest) (*logcorev1.SetHistoryWindowResponse, error) {
	h, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return h.SetHistoryWindow(ctx, req)
}

// HoldHistory implements logcorev1.HistoryServiceServer.
func (f historyFront) HoldHistory(ctx context.Context, req *logcorev1.HoldHistoryRequest) (*logcorev1.HoldHistoryResponse, error) {
	h, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return h.HoldHistory(ctx, req)
}

// AcquireLease implements logcorev1.HistoryServiceServer.
func (f historyFront) AcquireLease(ctx context.Context, req *logcorev1.AcquireLeaseRequest) (*logcorev1.AcquireLeaseResponse, error) {
	h, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return h.AcquireLease(ctx, req)
}

// RenewLease implements logcorev1.HistoryServiceServer.
func (f historyFront) RenewLease(ctx context.Context, req *logcorev1.RenewLeaseRequest) (*logcorev1.RenewLeaseResponse, error) {
	h, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return h.RenewLease(ctx, req)
}

// ReleaseLease implements logcorev1.HistoryServiceServer.
func (f historyFront) ReleaseLease(ctx context.Context, req *logcorev1.ReleaseLeaseRequest) (*logcorev1.ReleaseLeaseResponse, error) {
	h, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return h.ReleaseLease(ctx, req)
}

// AdvanceHorizon implements logcorev1.HistoryServiceServer. It names its log by id.
func (f historyFront) AdvanceHorizon(ctx context.Context, req *logcorev1.AdvanceHorizonRequest) (*logcorev1.AdvanceHorizonResponse, error) {
	at := f.sh.all[0]
	for _, s := range f.sh.all {
		here := false
		s.group.View(func(state *catalog.State) {
			l, err := state.ByID(logcore.LogID(req.LogId))
			here = err == nil && !l.Gone
		})
		if here {
			at = s
			break
		}
	}
	return histories{s: at}.AdvanceHorizon(ctx, req)
}

// ListHistories implements logcorev1.HistoryServiceServer. Of shards that are led elsewhere it is what this member
// knows: an older list is as good, because nothing is granted below a horizon. A family that is between two shards is
// listed as it left, of no incarnation.
func (f historyFront) ListHistories(ctx context.Context, req *logcorev1.ListHistoriesRequest) (*logcorev1.ListHistoriesResponse, error) {
	resp, err := histories{s: f.sh.all[0]}.ListHistories(ctx, req)
	if err != nil || len(f.sh.all) == 1 {
		return resp, err
	}
	of := f.homes()
	all := &logcorev1.ListHistoriesResponse{Incarnation: resp.Incarnation, Now: resp.Now}
	for _, s := range f.sh.all {
		part := histories{s: s}.list()
		for _, l := range part.Logs {
			if of[l.LogId] == s {
				all.Logs = append(all.Logs, l)
			}
		}
		for _, l := range part.Leases {
			if of[l.LogId] == s {
				all.Leases = append(all.Leases, l)
			}
		}
		for _, h := range part.Holds {
			if of[h.LogId] == s {
				all.Holds = append(all.Holds, h)
			}
		}
	}
	sortHistories(all)
	return all, nil
}

// homes returns the service that knows each log best: of its root's shard, or, while the family is between two, of the one
// that it left last.
func (f historyFront) homes() map[uint64]*Service {
	type home struct {
		s   *Service
		at  uint64 // the higher the newer
		ids []uint64
	}
	best := map[logcore.LogID]home{} // by root
	for _, s := range f.sh.all {
		s.group.View(func(state *catalog.State) {
			families := map[logcore.LogID]home{}
			for _, l := range state.Logs() {
				root := state.Root(l)
				h := families[root.ID]
				if h.s, h.at = s, 2*root.Gen; !root.Gone {
					h.at++
				}
				h.ids = append(h.ids, uint64(l.ID))
				families[root.ID] = h
			}
			for id, h := range families {
				if have, ok := best[id]; !ok || h.at > have.at {
					best[id] = h
				}
			}
		})
	}
	of := map[uint64]*Service{}
	for _, h := range best {
		for _, id := range h.ids {
			of[id] = h.s
		}
	}
	return of
}

// ReportIngest implements logcorev1.HistoryServiceServer.
func (f historyFront) ReportIngest(ctx context.Context, req *logcorev1.ReportIngestRequest) (*logcorev1.ReportIngestResponse, error) {
	for _, s := range f.sh.all {
		if resp, err := (histories{s: s}).ReportIngest(ctx, req); err != nil {
			return resp, err
		}
	}
	return &logcorev1.ReportIngestResponse{}, nil
}
