package logsvc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// leaseTTLDefault is how long a lease lasts that does not say.
const leaseTTLDefault = time.Minute

// histories serves HistoryService. It is a type of its own for its forward-compatible base.
type histories struct {
	logcorev1.UnimplementedHistoryServiceServer
	s *Service
}

var _ logcorev1.HistoryServiceServer = histories{}

// on runs a command about a named log; make sees the log as it will be.
func (h histories) on(ctx context.Context, log string, make func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error)) error {
	err := h.s.do(ctx, func(p *replication.Proposer) error {
		l, err := p.Catalog().ByName(log)
		if err != nil {
			return err
		}
		c, err := make(p, l)
		if err != nil {
			return err
		}
		if c.Op == 0 { // nothing to do but to be sure of what was decided before
			p.WaitFor(p.Catalog().LSN)
			return nil
		}
		_, err = p.Command(c)
		return err
	})
	return h.s.status(err, log)
}

// checkIdle refuses to take a branch from a writer that is alive. It runs on the loop.
func (h histories) checkIdle(p *replication.Proposer, l *catalog.Log, force bool) error {
	h.s.leases.enter(p.Term(), p.Since())
	if left := h.s.leases.left(l.ID); l.WriterOpen && !force && left > 0 {
		return fmt.Errorf("%w: branch %q is held by writer %q at epoch %d for %v more; wait, close it, or force", logcore.ErrWriterActive, l.Name, l.Writer, l.Epoch, left.Round(time.Millisecond))
	}
	return nil
}

// DeleteBranch implements logcorev1.HistoryServiceServer.
func (h histories) DeleteBranch(ctx context.Context, req *logcorev1.DeleteBranchRequest) (*logcorev1.DeleteBranchResponse, error) {
	err := h.on(ctx, req.Branch, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		return catalog.Command{Op: catalog.OpDelete, Log: l.ID}, h.checkIdle(p, l, req.Force)
	})
	return &logcorev1.DeleteBranchResponse{}, err
}

// ResetBranch implements logcorev1.HistoryServiceServer.
func (h histories) ResetBranch(ctx context.Context, req *logcorev1.ResetBranchRequest) (*logcorev1.ResetBranchResponse, error) {
	resp := &logcorev1.ResetBranchResponse{Lsn: req.Lsn}
	err := h.on(ctx, req.Branch, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		if parent, err := p.Catalog().ByID(l.Parent); err == nil && req.Lsn == 0 {
			resp.Lsn = uint64(max(parent.LastLSN, parent.BranchLSN, parent.CreatedLSN))
		}
		resp.LogId = uint64(p.Catalog().NextLog())
		return catalog.Command{Op: catalog.OpReset, Log: l.ID, LSN: logcore.LSN(resp.Lsn)}, h.checkIdle(p, l, req.Force)
	})
	return resp, err
}

// SetHistoryWindow implements logcorev1.HistoryServiceServer.
func (h histories) SetHistoryWindow(ctx context.Context, req *logcorev1.SetHistoryWindowRequest) (*logcorev1.SetHistoryWindowResponse, error) {
	err := h.on(ctx, req.Log, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		return catalog.Command{Op: catalog.OpRetention, Log: l.ID, WindowMs: req.WindowMs, WindowBytes: req.WindowBytes}, nil
	})
	return &logcorev1.SetHistoryWindowResponse{}, err
}

// HoldHistory implements logcorev1.HistoryServiceServer.
func (h histories) HoldHistory(ctx context.Context, req *logcorev1.HoldHistoryRequest) (*logcorev1.HoldHistoryResponse, error) {
	err := h.on(ctx, req.Log, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		return catalog.Command{Op: catalog.OpHold, Log: l.ID, LSN: logcore.LSN(req.Lsn), Name: req.Name}, nil
	})
	return &logcorev1.HoldHistoryResponse{}, err
}

func leaseTTL(ms uint32) uint64 {
	if ms == 0 {
		return uint64(leaseTTLDefault.Milliseconds())
	}
	return uint64(ms)
}

// AcquireLease implements logcorev1.HistoryServiceServer.
func (h histories) AcquireLease(ctx context.Context, req *logcorev1.AcquireLeaseRequest) (*logcorev1.AcquireLeaseResponse, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, h.s.status(err, req.Log)
	}
	resp := &logcorev1.AcquireLeaseResponse{Lease: binary.LittleEndian.Uint64(id[:]) | 1, Lsn: req.Lsn, TtlMs: uint32(leaseTTL(req.TtlMs))}
	err := h.on(ctx, req.Log, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		if req.Lsn == 0 {
			resp.Lsn = uint64(max(l.LastLSN, l.BranchLSN, l.CreatedLSN))
		}
		if err := p.DiskFull(); err != nil {
			return catalog.Command{}, err
		}
		return catalog.Command{Op: catalog.OpLease, Log: l.ID, LSN: logcore.LSN(resp.Lsn), Lease: resp.Lease, TTLMs: leaseTTL(req.TtlMs), Writer: req.Holder}, nil
	})
	return resp, err
}

// RenewLease implements logcorev1.HistoryServiceServer.
func (h histories) RenewLease(ctx context.Context, req *logcorev1.RenewLeaseRequest) (*logcorev1.RenewLeaseResponse, error) {
	resp := &logcorev1.RenewLeaseResponse{TtlMs: uint32(leaseTTL(req.TtlMs))}
	err := h.on(ctx, req.Log, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		lease, ok := p.Catalog().Lease(req.Lease)
		if !ok || lease.Log != l.ID {
			return catalog.Command{}, fmt.Errorf("%w: log %q has no lease %016x: it ran out or was given back", logcore.ErrInvalid, l.Name, req.Lease)
		}
		resp.Lsn = uint64(lease.LSN)
		return catalog.Command{Op: catalog.OpLease, Log: l.ID, LSN: lease.LSN, Lease: lease.ID, TTLMs: leaseTTL(req.TtlMs), Writer: lease.Holder}, nil
	})
	return resp, err
}

// ReleaseLease implements logcorev1.HistoryServiceServer.
func (h histories) ReleaseLease(ctx context.Context, req *logcorev1.ReleaseLeaseRequest) (*logcorev1.ReleaseLeaseResponse, error) {
	err := h.on(ctx, req.Log, func(p *replication.Proposer, l *catalog.Log) (catalog.Command, error) {
		lease, ok := p.Catalog().Lease(req.Lease)
		if !ok || lease.Log != l.ID {
			return catalog.Command{}, nil
		}
		return catalog.Command{Op: catalog.OpLease, Log: l.ID, LSN: lease.LSN, Lease: lease.ID}, nil
	})
	return &logcorev1.ReleaseLeaseResponse{}, err
}

// AdvanceHorizon implements logcorev1.HistoryServiceServer.
func (h histories) AdvanceHorizon(ctx context.Context, req *logcorev1.AdvanceHorizonRequest) (*logcorev1.AdvanceHorizonResponse, error) {
	resp := &logcorev1.AdvanceHorizonResponse{}
	about := ""
	err := h.s.do(ctx, func(p *replication.Proposer) error {
		if err := p.Catalog().CheckIncarnation(req.Incarnation); err != nil {
			return err
		}
		l, err := p.Catalog().ByID(logcore.LogID(req.LogId))
		if err != nil {
			return err
		}
		about = l.Name
		to := min(logcore.LSN(req.Lsn), p.Catalog().HorizonMax(l))
		if to <= l.Horizon && !p.Catalog().LeaseRanOut(logcore.HLCAt(time.Now())) {
			p.WaitFor(p.Catalog().LSN)
		} else if _, err = p.Command(catalog.Command{Op: catalog.OpHorizon, Log: l.ID, LSN: max(to, l.Horizon)}); err != nil {
			return err
		}
		resp.HorizonLsn = uint64(max(to, l.Horizon))
		return nil
	})
	return resp, h.s.status(err, about)
}

// ListHistories implements logcorev1.HistoryServiceServer.
func (h histories) ListHistories(ctx context.Context, _ *logcorev1.ListHistoriesRequest) (*logcorev1.ListHistoriesResponse, error) {
	if err := h.s.fresh(ctx, 0); err != nil {
		return nil, h.s.status(err, "")
	}
	return h.list(), nil
}

// list is ListHistories of this shard, as this member knows it. A log that is gone is of no incarnation: its leases run out
// here and are renewed where it went, so of what may be collected this shard knows nothing any more, and a member that has
// not seen it there yet must not say that a lease is over.
func (h histories) list() *logcorev1.ListHistoriesResponse {
	resp := &logcorev1.ListHistoriesResponse{Now: uint64(logcore.HLCAt(time.Now()))}
	h.s.group.View(func(state *catalog.State) {
		resp.Incarnation = state.Incarnation
		for _, l := range state.Logs() {
			incarnation := state.Incarnation
			if l.Gone {
				incarnation = 0
			}
			resp.Logs = append(resp.Logs, &logcorev1.LogHistory{LogId: uint64(l.ID), Log: l.Name, ParentId: uint64(l.Parent), BranchLsn: uint64(l.BranchLSN),
				HorizonLsn: uint64(l.Horizon), WindowMs: l.WindowMs, WindowBytes: l.WindowBytes, Incarnation: incarnation})
		}
		for _, l := range state.Leases() {
			resp.Leases = append(resp.Leases, &logcorev1.HistoryLease{Lease: l.ID, LogId: uint64(l.Log), Lsn: uint64(l.LSN), Expires: uint64(l.Expires), Holder: l.Holder})
		}
		for _, held := range state.Holds() {
			resp.Holds = append(resp.Holds, &logcorev1.HistoryHold{LogId: uint64(held.Log), Name: held.Name, Lsn: uint64(held.LSN)})
		}
	})
	return resp
}

// sortHistories puts what comes from several shards in order: logs by id, the rest by log.
func sortHistories(r *logcorev1.ListHistoriesResponse) {
	slices.SortFunc(r.Logs, func(a, b *logcorev1.LogHistory) int { return cmp.Compare(a.LogId, b.LogId) })
	slices.SortFunc(r.Leases, func(a, b *logcorev1.HistoryLease) int {
		return cmp.Or(cmp.Compare(a.LogId, b.LogId), cmp.Compare(a.Lsn, b.Lsn), cmp.Compare(a.Lease, b.Lease))
	})
	slices.SortFunc(r.Holds, func(a, b *logcorev1.HistoryHold) int {
		return cmp.Or(cmp.Compare(a.LogId, b.LogId), cmp.Compare(a.Name, b.Name))
	})
}
