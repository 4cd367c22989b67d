package pageserver

import (
	"context"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// service is the wire's view of a Server.
type service struct {
	logcorev1.UnimplementedPageServiceServer
	s *Server
}

func millis(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

func spaceOf(s *logcorev1.Space) engine.Space { return engine.Space{Hi: s.GetHi(), Lo: s.GetLo()} }

func (v *service) GetPages(ctx context.Context, req *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	set, err := v.s.GetPages(ctx, req.Log, spaceOf(req.Space), req.Pages,
		ReadAt{LSN: logcore.LSN(req.Lsn), NotModifiedSince: logcore.LSN(req.NotModifiedSince), Log: logcore.LogID(req.LogId), Wait: millis(req.TimeoutMs)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	resp := &logcorev1.GetPagesResponse{Lsn: uint64(set.LSN), Incarnation: set.Incarnation, Pages: make([]*logcorev1.Page, len(set.Pages))}
	pages := make([]logcorev1.Page, len(set.Pages))
	for i, p := range set.Pages {
		pages[i].Page, pages[i].Data, pages[i].Digest, pages[i].LastLsn = p.Number, p.Data, p.Digest, uint64(p.LastLSN)
		resp.Pages[i] = &pages[i]
	}
	return resp, nil
}

func (v *service) SpaceSize(ctx context.Context, req *logcorev1.SpaceSizeRequest) (*logcorev1.SpaceSizeResponse, error) {
	size, err := v.s.SpaceSize(ctx, req.Log, spaceOf(req.Space), ReadAt{LSN: logcore.LSN(req.Lsn), Log: logcore.LogID(req.LogId), Wait: millis(req.TimeoutMs)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	return &logcorev1.SpaceSizeResponse{Lsn: uint64(size.LSN), Pages: size.Pages, PageSize: size.PageSize, LastLsn: uint64(size.LastLSN), Incarnation: size.Incarnation}, nil
}

func (v *service) ListSpaces(ctx context.Context, req *logcorev1.ListSpacesRequest) (*logcorev1.ListSpacesResponse, error) {
	of := SpaceRange{HiFrom: req.HiFrom, HiThrough: req.HiThrough, Limit: int(min(req.Limit, ListMax))}
	if req.After != nil {
		after := spaceOf(req.After)
		of.After = &after
	}
	list, err := v.s.ListSpaces(ctx, req.Log, of, ReadAt{LSN: logcore.LSN(req.Lsn), Log: logcore.LogID(req.LogId), Wait: millis(req.TimeoutMs)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	resp := &logcorev1.ListSpacesResponse{Lsn: uint64(list.LSN), Incarnation: list.Incarnation, More: list.More}
	for _, sp := range list.Spaces {
		resp.Spaces = append(resp.Spaces, &logcorev1.SpaceInfo{Space: &logcorev1.Space{Hi: sp.Space.Hi, Lo: sp.Space.Lo}, Pages: sp.Pages, PageSize: sp.PageSize})
	}
	return resp, nil
}

func (v *service) GetObject(ctx context.Context, req *logcorev1.GetObjectRequest) (*logcorev1.GetObjectResponse, error) {
	list, err := v.s.GetObject(ctx, req.Log, req.Key, ReadAt{LSN: logcore.LSN(req.Lsn), Log: logcore.LogID(req.LogId), Wait: millis(req.TimeoutMs)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	o := list.Objects[0]
	return &logcorev1.GetObjectResponse{Lsn: uint64(list.LSN), Incarnation: list.Incarnation, Found: o.Data != nil, Data: o.Data, Digest: o.Digest, LastLsn: uint64(o.LastLSN)}, nil
}

func (v *service) ListObjects(ctx context.Context, req *logcorev1.ListObjectsRequest) (*logcorev1.ListObjectsResponse, error) {
	list, err := v.s.ListObjects(ctx, req.Log, req.Prefix, req.After, int(min(req.Limit, ListMax)), ReadAt{LSN: logcore.LSN(req.Lsn), Log: logcore.LogID(req.LogId), Wait: millis(req.TimeoutMs)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	resp := &logcorev1.ListObjectsResponse{Lsn: uint64(list.LSN), Incarnation: list.Incarnation, More: list.More}
	for _, o := range list.Objects {
		resp.Objects = append(resp.Objects, &logcorev1.Object{Key: o.Key, Data: o.Data, Digest: o.Digest, LastLsn: uint64(o.LastLSN)})
	}
	return resp, nil
}

func (v *service) WaitLSN(ctx context.Context, req *logcorev1.WaitLSNRequest) (*logcorev1.WaitLSNResponse, error) {
	lsn, incarnation, err := v.s.waitLSN(ctx, req.Log, ReadAt{LSN: logcore.LSN(req.Lsn), Wait: millis(req.TimeoutMs)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	return &logcorev1.WaitLSNResponse{IngestedLsn: uint64(lsn), Incarnation: incarnation}, nil
}

func (v *service) CreateBranch(ctx context.Context, req *logcorev1.CreateBranchRequest) (*logcorev1.CreateBranchResponse, error) {
	id, lsn, err := v.s.CreateBranch(ctx, req.Parent, req.Branch, ReadAt{LSN: logcore.LSN(req.Lsn)})
	if err != nil {
		return nil, wire.ToStatus(err, req.Parent)
	}
	return &logcorev1.CreateBranchResponse{LogId: uint64(id), Lsn: uint64(lsn)}, nil
}

func (v *service) ResolveTime(ctx context.Context, req *logcorev1.ResolveTimeRequest) (*logcorev1.ResolveTimeResponse, error) {
	const unixMsMax = 1<<48 - 1 // what a hybrid logical clock can hold
	lsn, hlc, err := v.s.ResolveTime(ctx, req.Log, time.UnixMilli(int64(min(req.UnixMs, unixMsMax))), 0)
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	return &logcorev1.ResolveTimeResponse{Lsn: uint64(lsn), Time: uint64(hlc)}, nil
}

// Stripes says that this page server has all pages: one that has not answers through
// package stripe.
func (v *service) Stripes(ctx context.Context, req *logcorev1.StripesRequest) (*logcorev1.StripesResponse, error) {
	resp := &logcorev1.StripesResponse{}
	if req.Log != "" {
		root, err := v.s.Root(ctx, req.Log)
		if err != nil {
			return nil, wire.ToStatus(err, req.Log)
		}
		resp.RootLogId = uint64(root)
	}
	return resp, nil
}

func (v *service) Checkpoint(ctx context.Context, _ *logcorev1.CheckpointRequest) (*logcorev1.CheckpointResponse, error) {
	st, err := v.s.Checkpoint(ctx)
	if err != nil {
		return nil, wire.ToStatus(err, "")
	}
	return &logcorev1.CheckpointResponse{Stores: []*logcorev1.StoreCheckpoint{st.wire()}}, nil
}

func (v *service) CheckpointStatus(context.Context, *logcorev1.CheckpointStatusRequest) (*logcorev1.CheckpointStatusResponse, error) {
	return &logcorev1.CheckpointStatusResponse{Stores: []*logcorev1.StoreCheckpoint{v.s.CheckpointStatus().wire()}}, nil
}

func (st CheckpointStatus) wire() *logcorev1.StoreCheckpoint {
	out := &logcorev1.StoreCheckpoint{Place: st.Where, Epoch: st.Epoch, StandingBy: st.StandingBy, Number: st.Number, Tables: uint64(st.Tables), Bytes: uint64(st.Bytes),
		BeganFrom: st.BeganFrom, BeganIn: st.BeganIn, Borrowed: st.Borrowed, MissingBytes: uint64(st.MissingBytes)}
	if !st.Created.IsZero() {
		out.CreatedUnixMs = uint64(st.Created.UnixMilli())
	}
	if st.Err != nil {
		out.Error = st.Err.Error()
	}
	return out
}

func (v *service) History(ctx context.Context, req *logcorev1.HistoryRequest) (*logcorev1.HistoryResponse, error) {
	of := ChangeRange{From: logcore.LSN(req.FromLsn), To: logcore.LSN(req.ToLsn), Limit: int(min(req.Limit, ChangesMax))}
	h, err := v.s.History(ctx, req.Log, spaceOf(req.Space), req.Page, of, millis(req.TimeoutMs))
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	resp := &logcorev1.HistoryResponse{Lsn: uint64(h.LSN), Incarnation: h.Incarnation, NextToLsn: uint64(h.Next), CompleteFromLsn: uint64(h.CompleteFrom)}
	for _, c := range h.Changes {
		change := &logcorev1.PageChange{Lsn: uint64(c.LSN), Time: uint64(c.Time), Kind: logcorev1.PageChangeKind(c.Kind), BytesChanged: uint32(c.BytesChanged), RecordBytes: uint32(c.RecordBytes)}
		if c.Tx != (logcore.TxID{}) {
			change.TxId = c.Tx[:]
		}
		resp.Changes = append(resp.Changes, change)
	}
	return resp, nil
}
