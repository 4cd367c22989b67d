package roles

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// latePages stands in for a page service that is not up yet: in a process that plays
// both roles the page server reads the log through the very server it is registered
// with, so the server must serve first.
type latePages struct {
	logcorev1.UnimplementedPageServiceServer
	service atomic.Pointer[logcorev1.PageServiceServer]
}

var _ grpc.ServiceRegistrar = (*latePages)(nil)

// RegisterService takes the page service: what would register with a server registers here.
func (l *latePages) RegisterService(_ *grpc.ServiceDesc, impl any) {
	s := impl.(logcorev1.PageServiceServer) // it is the page server's own Register that calls
	l.service.Store(&s)
}

func (l *latePages) get() (logcorev1.PageServiceServer, error) {
	if s := l.service.Load(); s != nil {
		return *s, nil
	}
	return nil, status.Error(codes.Unavailable, "the page server is starting: try again")
}

func (l *latePages) GetPages(ctx context.Context, r *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.GetPages(ctx, r)
}

func (l *latePages) SpaceSize(ctx context.Context, r *logcorev1.SpaceSizeRequest) (*logcorev1.SpaceSizeResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.SpaceSize(ctx, r)
}

func (l *latePages) WaitLSN(ctx context.Context, r *logcorev1.WaitLSNRequest) (*logcorev1.WaitLSNResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.WaitLSN(ctx, r)
}

func (l *latePages) CreateBranch(ctx context.Context, r *logcorev1.CreateBranchRequest) (*logcorev1.CreateBranchResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.CreateBranch(ctx, r)
}

func (l *latePages) ResolveTime(ctx context.Context, r *logcorev1.ResolveTimeRequest) (*logcorev1.ResolveTimeResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.ResolveTime(ctx, r)
}

func (l *latePages) ListSpaces(ctx context.Context, r *logcorev1.ListSpacesRequest) (*logcorev1.ListSpacesResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.ListSpaces(ctx, r)
}

func (l *latePages) GetObject(ctx context.Context, r *logcorev1.GetObjectRequest) (*logcorev1.GetObjectResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.GetObject(ctx, r)
}

func (l *latePages) ListObjects(ctx context.Context, r *logcorev1.ListObjectsRequest) (*logcorev1.ListObjectsResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.ListObjects(ctx, r)
}

func (l *latePages) Stripes(ctx context.Context, r *logcorev1.StripesRequest) (*logcorev1.StripesResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Stripes(ctx, r)
}

func (l *latePages) History(ctx context.Context, r *logcorev1.HistoryRequest) (*logcorev1.HistoryResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.History(ctx, r)
}

func (l *latePages) Checkpoint(ctx context.Context, r *logcorev1.CheckpointRequest) (*logcorev1.CheckpointResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Checkpoint(ctx, r)
}

func (l *latePages) CheckpointStatus(ctx context.Context, r *logcorev1.CheckpointStatusRequest) (*logcorev1.CheckpointStatusResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.CheckpointStatus(ctx, r)
}

func (l *latePages) LogStatus(ctx context.Context, r *logcorev1.LogStatusRequest) (*logcorev1.LogStatusResponse, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.LogStatus(ctx, r)
}
