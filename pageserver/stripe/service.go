package stripe

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// service is the wire's view of a Host: pages, and their history, are asked of the store
// that has them, everything else of any.
type service struct {
	logcorev1.UnimplementedPageServiceServer
	h *Host
}

var _ logcorev1.PageServiceServer = (*service)(nil)

// any returns a store that has caught up.
func (v *service) any(log string) (*store, error) {
	view := v.h.view.Load()
	if len(view.stores) == 0 {
		return nil, wire.ToStatus(fmt.Errorf("%w: this one, %016x, has none yet", logcore.ErrWrongPageServer, view.id), log)
	}
	return view.stores[0], nil
}

// gone reports whether a store failed because it was given up while it was asked: then
// another one has to be, or another page server.
func (v *service) gone(s *store, err error) bool {
	return status.Code(err) == codes.Unavailable && !slices.Contains(v.h.view.Load().all, s)
}

// ofAny asks any store that has caught up.
func ofAny[R any](v *service, log string, ask func(*store) (R, error)) (R, error) {
	for {
		s, err := v.any(log)
		if err != nil {
			var none R
			return none, err
		}
		resp, err := ask(s)
		if !v.gone(s, err) {
			return resp, err
		}
	}
}

// find returns the store that has a page.
func (v *view) find(root logcore.LogID, space *logcorev1.Space, page uint32) (*store, error) {
	stripe := stripemap.Of(uint64(root), space.GetLo(), page)
	for _, s := range v.stores {
		if s.stripes().Has(stripe) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: page %d of space %x:%x is in stripe %d, which %016x does not have", logcore.ErrWrongPageServer, page, space.GetHi(), space.GetLo(), stripe, v.id)
}

// root returns what a log's pages are hashed with.
func (v *service) root(ctx context.Context, log string) (*view, logcore.LogID, error) {
	root, err := ofAny(v, log, func(s *store) (logcore.LogID, error) {
		root, err := s.server.Root(ctx, log)
		return root, wire.ToStatus(err, log)
	})
	return v.h.view.Load(), root, err
}

// share is the part of a request that one store answers.
type share struct {
	store *store
	pages []uint32
	at    []int // where in the request each page stands
	resp  *logcorev1.GetPagesResponse
	err   error
}

// GetPages implements logcorev1.PageServiceServer.
func (v *service) GetPages(ctx context.Context, req *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	for {
		resp, shares, err := v.getPages(ctx, req)
		if !slices.ContainsFunc(shares, func(one *share) bool { return v.gone(one.store, one.err) }) {
			return resp, err
		}
	}
}

// getPages asks the stores that have the pages now.
func (v *service) getPages(ctx context.Context, req *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, []*share, error) {
	view, root, err := v.root(ctx, req.Log)
	if err != nil {
		return nil, nil, err
	}
	shares, err := view.divide(root, req)
	if err != nil {
		return nil, nil, wire.ToStatus(err, req.Log)
	}
	switch len(shares) {
	case 0:
		resp, err := ofAny(v, req.Log, func(s *store) (*logcorev1.GetPagesResponse, error) { return s.service.GetPages(ctx, req) })
		return resp, nil, err
	case 1:
		one := shares[0]
		one.resp, one.err = one.store.service.GetPages(ctx, req)
		return one.resp, shares, one.err
	}
	resp, err := gather(ctx, req, shares)
	return resp, shares, err
}

// divide finds out which store has which pages of a request.
func (v *view) divide(root logcore.LogID, req *logcorev1.GetPagesRequest) ([]*share, error) {
	var shares []*share
	for i, page := range req.Pages {
		s, err := v.find(root, req.Space, page)
		if err != nil {
			return nil, err
		}
		var mine *share
		for _, one := range shares {
			if one.store == s {
				mine = one
			}
		}
		if mine == nil {
			mine = &share{store: s}
			shares = append(shares, mine)
		}
		mine.pages, mine.at = append(mine.pages, page), append(mine.at, i)
	}
	return shares, nil
}

// gather asks every store for its share, as of one LSN: the request's, or that which the
// first one chooses.
func gather(ctx context.Context, req *logcorev1.GetPagesRequest, shares []*share) (*logcorev1.GetPagesResponse, error) {
	lsn := req.Lsn
	ask := func(one *share) {
		part := &logcorev1.GetPagesRequest{Log: req.Log, Space: req.Space, Pages: one.pages, Lsn: lsn, NotModifiedSince: req.NotModifiedSince, TimeoutMs: req.TimeoutMs, LogId: req.LogId}
		one.resp, one.err = one.store.service.GetPages(ctx, part)
	}
	rest := shares
	if lsn == 0 {
		if ask(shares[0]); shares[0].err != nil {
			return nil, shares[0].err
		}
		lsn, rest = shares[0].resp.Lsn, shares[1:]
	}
	var asking sync.WaitGroup
	for _, one := range rest {
		asking.Go(func() { ask(one) })
	}
	asking.Wait()
	out := &logcorev1.GetPagesResponse{Lsn: lsn, Pages: make([]*logcorev1.Page, len(req.Pages))}
	for i, one := range shares {
		if one.err != nil {
			return nil, one.err
		}
		if i == 0 {
			out.Incarnation = one.resp.Incarnation
		} else if one.resp.Incarnation != out.Incarnation {
			return nil, wire.ToStatus(fmt.Errorf("%w: the log service was restored meanwhile", logcore.ErrOverloaded), req.Log)
		}
		for k, page := range one.resp.Pages {
			out.Pages[one.at[k]] = page
		}
	}
	return out, nil
}

// History implements logcorev1.PageServiceServer.
func (v *service) History(ctx context.Context, req *logcorev1.HistoryRequest) (*logcorev1.HistoryResponse, error) {
	for {
		view, root, err := v.root(ctx, req.Log)
		if err != nil {
			return nil, err
		}
		s, err := view.find(root, req.Space, req.Page)
		if err != nil {
			return nil, wire.ToStatus(err, req.Log)
		}
		resp, err := s.service.History(ctx, req)
		if !v.gone(s, err) {
			return resp, err
		}
	}
}

// Stripes implements logcorev1.PageServiceServer.
func (v *service) Stripes(ctx context.Context, req *logcorev1.StripesRequest) (*logcorev1.StripesResponse, error) {
	view := v.h.view.Load()
	resp := &logcorev1.StripesResponse{Map: wire.StripeMap(view.m), Remembered: view.remembered}
	if req.Log == "" {
		return resp, nil
	}
	if len(view.stores) == 0 {
		return resp, nil // others know the root
	}
	_, root, err := v.root(ctx, req.Log)
	resp.RootLogId = uint64(root)
	return resp, err
}

// SpaceSize implements logcorev1.PageServiceServer.
func (v *service) SpaceSize(ctx context.Context, req *logcorev1.SpaceSizeRequest) (*logcorev1.SpaceSizeResponse, error) {
	return ofAny(v, req.Log, func(s *store) (*logcorev1.SpaceSizeResponse, error) { return s.service.SpaceSize(ctx, req) })
}

// ListSpaces implements logcorev1.PageServiceServer.
func (v *service) ListSpaces(ctx context.Context, req *logcorev1.ListSpacesRequest) (*logcorev1.ListSpacesResponse, error) {
	return ofAny(v, req.Log, func(s *store) (*logcorev1.ListSpacesResponse, error) { return s.service.ListSpaces(ctx, req) })
}

// GetObject implements logcorev1.PageServiceServer.
func (v *service) GetObject(ctx context.Context, req *logcorev1.GetObjectRequest) (*logcorev1.GetObjectResponse, error) {
	return ofAny(v, req.Log, func(s *store) (*logcorev1.GetObjectResponse, error) { return s.service.GetObject(ctx, req) })
}

// ListObjects implements logcorev1.PageServiceServer.
func (v *service) ListObjects(ctx context.Context, req *logcorev1.ListObjectsRequest) (*logcorev1.ListObjectsResponse, error) {
	return ofAny(v, req.Log, func(s *store) (*logcorev1.ListObjectsResponse, error) { return s.service.ListObjects(ctx, req) })
}

// WaitLSN implements logcorev1.PageServiceServer.
func (v *service) WaitLSN(ctx context.Context, req *logcorev1.WaitLSNRequest) (*logcorev1.WaitLSNResponse, error) {
	return ofAny(v, req.Log, func(s *store) (*logcorev1.WaitLSNResponse, error) { return s.service.WaitLSN(ctx, req) })
}

// CreateBranch implements logcorev1.PageServiceServer.
func (v *service) CreateBranch(ctx context.Context, req *logcorev1.CreateBranchRequest) (*logcorev1.CreateBranchResponse, error) {
	return ofAny(v, req.Parent, func(s *store) (*logcorev1.CreateBranchResponse, error) { return s.service.CreateBranch(ctx, req) })
}

// ResolveTime implements logcorev1.PageServiceServer.
func (v *service) ResolveTime(ctx context.Context, req *logcorev1.ResolveTimeRequest) (*logcorev1.ResolveTimeResponse, error) {
	return ofAny(v, req.Log, func(s *store) (*logcorev1.ResolveTimeResponse, error) { return s.service.ResolveTime(ctx, req) })
}

// Checkpoint implements logcorev1.PageServiceServer: every store makes one.
func (v *service) Checkpoint(ctx context.Context, req *logcorev1.CheckpointRequest) (*logcorev1.CheckpointResponse, error) {
	stores := v.h.view.Load().all
	parts := make([]*logcorev1.CheckpointResponse, len(stores))
	errs := make([]error, len(stores))
	var making sync.WaitGroup
	for i, s := range stores {
		making.Go(func() { parts[i], errs[i] = s.service.Checkpoint(ctx, req) })
	}
	making.Wait()
	resp := &logcorev1.CheckpointResponse{}
	for i := range stores {
		switch {
		case v.gone(stores[i], errs[i]):
		case errs[i] != nil:
			return nil, errs[i]
		default:
			resp.Stores = append(resp.Stores, parts[i].Stores...)
		}
	}
	return resp, nil
}

// CheckpointStatus implements logcorev1.PageServiceServer.
func (v *service) CheckpointStatus(ctx context.Context, req *logcorev1.CheckpointStatusRequest) (*logcorev1.CheckpointStatusResponse, error) {
	resp := &logcorev1.CheckpointStatusResponse{}
	for _, s := range v.h.view.Load().all {
		one, err := s.service.CheckpointStatus(ctx, req)
		if err != nil {
			return nil, err
		}
		resp.Stores = append(resp.Stores, one.Stores...)
	}
	return resp, nil
}

// LogStatus implements logcorev1.PageServiceServer: what all stores of the process together
// have.
func (v *service) LogStatus(ctx context.Context, req *logcorev1.LogStatusRequest) (*logcorev1.LogStatusResponse, error) {
	if _, err := v.any(req.Log); err != nil {
		return nil, err
	}
	var parts []*logcorev1.LogStatusResponse
	for _, s := range v.h.view.Load().stores {
		one, err := s.service.LogStatus(ctx, req)
		if v.gone(s, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, one)
	}
	resp := wire.MergePageStatus(parts...)
	if resp.Sources != nil {
		resp.Sources.MapRemembered = v.h.view.Load().remembered
	}
	return resp, nil
}
