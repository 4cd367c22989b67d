package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/target"
)

// archiveService is ArchiveService over whatever archiver this member runs.
type archiveService struct {
	logcorev1.UnimplementedArchiveServiceServer
	s *logService
}

// errNoArchive: nothing is archived here.
var errNoArchive = status.Error(codes.FailedPrecondition, "there is no archive: no targets are configured")

// archiver returns the archiver of a shard, or an error that says who has it.
func (a archiveService) archiver(shard uint32) (*tiering.Archiver, error) {
	if int64(shard) >= int64(len(a.s.parts)) {
		return nil, toStatus(fmt.Errorf("%w: there is no shard %d: the service has %d, from 0 on", logcore.ErrInvalid, shard, len(a.s.parts)))
	}
	p := a.s.parts[shard]
	if archiver := p.archiver.Load(); archiver != nil {
		return archiver, nil
	}
	if len(a.s.targets.now()) == 0 {
		return nil, errNoArchive
	}
	if a.s.node != nil && !p.group.Leading() {
		leader := p.group.Leader()
		return nil, wire.ToStatus(&logcore.NotLeaderError{Shard: p.id, Leader: leader, Address: a.s.node.Address(leader)}, "")
	}
	return nil, status.Error(codes.Unavailable, "the archiver has not started yet: too few targets answer")
}

// toStatus maps the archive's own errors.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tiering.ErrPlacement), errors.Is(err, tiering.ErrHeld), errors.Is(err, tiering.ErrNoContent):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, tiering.ErrUnknownTarget):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, tiering.ErrUnproven), errors.Is(err, tiering.ErrNoQuorum):
		return status.Error(codes.Unavailable, err.Error())
	}
	return wire.ToStatus(err, "")
}

// ArchiveStatus implements logcorev1.ArchiveServiceServer.
func (a archiveService) ArchiveStatus(_ context.Context, req *logcorev1.ArchiveStatusRequest) (*logcorev1.ArchiveStatusResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	st := archiver.Status()
	k, m := archiver.Code()
	resp := &logcorev1.ArchiveStatusResponse{DataFragments: uint32(k), ParityFragments: uint32(m), Objects: uint64(st.Objects), ObjectsToRecode: uint64(archiver.Recoding()),
		RawBytes: uint64(st.RawBytes), StoredBytes: uint64(st.StoredBytes), RpoMs: uint64(st.RPO.Milliseconds()), RpoAllowedMs: uint64(a.s.cfg.ArchiveMaxAge.Milliseconds()),
		ScrubNextLsn: archiver.ScrubNext(), LockSeconds: uint64(archiver.Lock() / time.Second),
		Shards: uint32(len(a.s.parts)), Targets: a.s.parts[req.Shard].targetList(archiver)}
	for _, c := range archiver.Costs() {
		resp.Costs = append(resp.Costs, &logcorev1.TargetCost{Target: c.Target, Storage: c.Storage, Requests: c.Requests, Egress: c.Egress, Priced: c.Priced})
	}
	names := a.s.logNames()
	for _, p := range archiver.Policies() {
		resp.Policies = append(resp.Policies, &logcorev1.ArchivePolicy{Log: names[p.Log], LogId: uint64(p.Log), KeepSeconds: uint64(p.Keep / time.Second), Hold: p.Hold})
	}
	resp.Tombstones = tombstones(archiver.Tombstones())
	if key, ok := archiver.PublicKey(); ok {
		resp.PublicKey = key.String()
	}
	return resp, nil
}

func tombstones(all []tiering.Tombstone) (out []*logcorev1.ArchiveTombstone) {
	for _, t := range all {
		out = append(out, &logcorev1.ArchiveTombstone{Reason: t.Why.String(), LogId: uint64(t.Log), FirstLsn: uint64(t.First), LastLsn: uint64(t.Last),
			Entries: t.Entries, Bytes: uint64(t.Bytes), UnixMs: t.At.UnixMilli()})
	}
	return out
}

// AddTarget implements logcorev1.ArchiveServiceServer.
func (a archiveService) AddTarget(ctx context.Context, req *logcorev1.AddTargetRequest) (*logcorev1.AddTargetResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	if err := a.s.registerTarget(ctx, req.Url); err != nil {
		return nil, registerStatus(err)
	}
	spec, err := target.Parse(req.Url)
	if err != nil {
		return nil, toStatus(err)
	}
	for _, t := range a.s.targets.now() {
		if t.Name == spec.Name {
			return &logcorev1.AddTargetResponse{}, toStatus(archiver.AddTarget(ctx, t))
		}
	}
	return nil, status.Error(codes.Aborted, "the target was removed meanwhile")
}

// NewTarget prepares the bucket at a URL, which must be empty or the cluster's already, as
// a target of the name there, and opens it.
func NewTarget(ctx context.Context, url string, id [16]byte) (_ tiering.Target, closeIt func() error, err error) {
	if err := PrepareTarget(ctx, url, id); err != nil && !errors.Is(err, errAlready) {
		return tiering.Target{}, nil, err
	}
	spec, err := target.Parse(url)
	if err != nil {
		return tiering.Target{}, nil, err
	}
	lazy, err := target.OpenLazy(url, target.Marker{Cluster: id, Name: spec.Name})
	if err != nil {
		return tiering.Target{}, nil, err
	}
	return tiering.Target{Name: spec.Name, Provider: spec.Provider, Region: spec.Region, Home: spec.Home, Prices: tiering.Prices(spec.Prices), Bucket: lazy.Bucket}, lazy.Bucket.Close, nil
}

// EvacuateTarget implements logcorev1.ArchiveServiceServer.
func (a archiveService) EvacuateTarget(ctx context.Context, req *logcorev1.EvacuateTargetRequest) (*logcorev1.EvacuateTargetResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	if err := archiver.Evacuate(ctx, req.Name); err != nil {
		return nil, toStatus(err)
	}
	return &logcorev1.EvacuateTargetResponse{FragmentsLeft: uint64(archiver.Evacuated(req.Name))}, nil
}

// RemoveTarget implements logcorev1.ArchiveServiceServer.
func (a archiveService) RemoveTarget(ctx context.Context, req *logcorev1.RemoveTargetRequest) (*logcorev1.RemoveTargetResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	if err := archiver.RemoveTarget(ctx, req.Name); err != nil {
		return nil, toStatus(err)
	}
	return &logcorev1.RemoveTargetResponse{}, nil
}

// Recode implements logcorev1.ArchiveServiceServer.
func (a archiveService) Recode(ctx context.Context, req *logcorev1.RecodeRequest) (*logcorev1.RecodeResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	return &logcorev1.RecodeResponse{}, toStatus(archiver.SetCode(ctx, int(req.DataFragments), int(req.ParityFragments)))
}

// Scrub implements logcorev1.ArchiveServiceServer.
func (a archiveService) Scrub(ctx context.Context, req *logcorev1.ScrubRequest) (*logcorev1.ScrubResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	if req.BytesMax > 1<<62 || !(req.MoneyMax >= 0) {
		return nil, toStatus(fmt.Errorf("%w: a budget of %d bytes and %g", logcore.ErrInvalid, req.BytesMax, req.MoneyMax))
	}
	r, err := archiver.Scrub(ctx, tiering.ScrubOptions{Budget: tiering.ScrubBudget{Bytes: int64(req.BytesMax), Money: req.MoneyMax}, From: logcore.LSN(req.FromLsn)})
	if err != nil {
		return nil, toStatus(err)
	}
	resp := &logcorev1.ScrubResponse{Objects: uint64(r.Objects), Fragments: uint64(r.Fragments), Bytes: uint64(r.Bytes), Money: r.Money,
		Damaged: uint64(r.Damaged), Repaired: uint64(r.Repaired), Unread: uint64(r.Unread), NextLsn: uint64(r.Next), Complete: r.Complete}
	for _, p := range r.Problems {
		resp.Problems = append(resp.Problems, p.String())
	}
	return resp, nil
}

// Compact implements logcorev1.ArchiveServiceServer.
func (a archiveService) Compact(ctx context.Context, req *logcorev1.CompactRequest) (*logcorev1.CompactResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	r, err := archiver.Compact(ctx, tiering.CompactOptions{DryRun: req.DryRun, All: req.All})
	if err != nil {
		return nil, toStatus(err)
	}
	return &logcorev1.CompactResponse{ObjectsRead: uint64(r.Looked), ObjectsRewritten: uint64(r.Rewritten), Entries: r.Entries, RawBytes: uint64(r.RawBytes),
		SavedBytes: r.Saved(), Held: r.Held, Tombstones: tombstones(r.Tombstones)}, nil
}

// log returns the log that is meant: the id, or else that of the name.
func (a archiveService) log(id uint64, name string) (logcore.LogID, error) {
	if id != 0 {
		return logcore.LogID(id), nil
	}
	found, err := a.s.logID(name)
	return found, wire.ToStatus(err, name)
}

// SetRetention implements logcorev1.ArchiveServiceServer.
func (a archiveService) SetRetention(ctx context.Context, req *logcorev1.SetRetentionRequest) (*logcorev1.SetRetentionResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	id, err := a.log(req.LogId, req.Log)
	if err != nil {
		return nil, err
	}
	if req.KeepSeconds > 1<<33 {
		return nil, toStatus(fmt.Errorf("%w: a retention of %d seconds", logcore.ErrInvalid, req.KeepSeconds))
	}
	return &logcorev1.SetRetentionResponse{}, toStatus(archiver.SetRetention(ctx, id, time.Duration(req.KeepSeconds)*time.Second))
}

// SetHold implements logcorev1.ArchiveServiceServer.
func (a archiveService) SetHold(ctx context.Context, req *logcorev1.SetHoldRequest) (*logcorev1.SetHoldResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	id, err := a.log(req.LogId, req.Log)
	if err != nil {
		return nil, err
	}
	return &logcorev1.SetHoldResponse{}, toStatus(archiver.SetHold(ctx, id, req.Reason))
}

// SetLock implements logcorev1.ArchiveServiceServer.
func (a archiveService) SetLock(ctx context.Context, req *logcorev1.SetLockRequest) (*logcorev1.SetLockResponse, error) {
	archiver, err := a.archiver(req.Shard)
	if err != nil {
		return nil, err
	}
	if req.LockSeconds > 1<<33 {
		return nil, toStatus(fmt.Errorf("%w: a lock of %d seconds", logcore.ErrInvalid, req.LockSeconds))
	}
	return &logcorev1.SetLockResponse{}, toStatus(archiver.SetLock(ctx, time.Duration(req.LockSeconds)*time.Second))
}
