package sqlite

import (
	"context"
	"hash/crc32"
	"iter"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/pageserver"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// follower is the log service as the page server follows it.
type follower struct{ c *client.Client }

func (s follower) info(i client.LogInfo) pageserver.LogInfo {
	return pageserver.LogInfo{ID: i.ID, Name: i.Log, Incarnation: i.Incarnation, Parent: i.ParentID, BranchLSN: i.BranchLSN, Last: i.LastLSN, LastTime: i.LastTime, Committed: i.Committed}
}

func (s follower) List(ctx context.Context) ([]pageserver.LogInfo, error) {
	logs, err := s.c.Logs(ctx)
	var out []pageserver.LogInfo
	for _, l := range logs {
		out = append(out, s.info(l))
	}
	return out, err
}

func (s follower) Info(ctx context.Context, name string) (pageserver.LogInfo, error) {
	i, err := s.c.Info(ctx, name)
	return s.info(i), err
}

func (s follower) entry(e client.LogEntry) pageserver.Entry {
	return pageserver.Entry{LSN: e.LSN, Time: e.Time, Kind: e.Kind, Tx: e.Tx, Epoch: e.Epoch, Sequence: e.Sequence, Payload: e.Payload}
}

func (s follower) Entry(ctx context.Context, log pageserver.LogInfo, lsn logcore.LSN) (pageserver.Entry, bool, error) {
	for b, err := range s.c.Read(ctx, log.Name, client.ReadOptions{From: lsn, To: lsn}) {
		if err != nil {
			return pageserver.Entry{}, false, err
		}
		if len(b.Entries) > 0 {
			return s.entry(b.Entries[0]), true, nil
		}
	}
	return pageserver.Entry{}, false, nil
}

func (s follower) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		for b, err := range s.c.Read(ctx, log.Name, client.ReadOptions{From: from, Follow: true}) {
			batch := pageserver.Batch{Through: b.Through}
			for _, e := range b.Entries {
				batch.Entries = append(batch.Entries, s.entry(e))
			}
			if !yield(batch, err) || err != nil {
				return
			}
		}
	}
}

func (s follower) CreateBranch(ctx context.Context, parent, branch string, at logcore.LSN) (pageserver.LogInfo, error) {
	if _, err := s.c.CreateLog(ctx, branch, parent, at); err != nil {
		return pageserver.LogInfo{}, err
	}
	return s.Info(ctx, branch)
}

// lateService takes the place of the page service until there is one: it follows the
// log through the server that it is registered with.
type lateService struct {
	logcorev1.UnimplementedPageServiceServer
	impl atomic.Pointer[logcorev1.PageServiceServer]
}

func (l *lateService) RegisterService(_ *grpc.ServiceDesc, impl any) {
	s := impl.(logcorev1.PageServiceServer)
	l.impl.Store(&s)
}

func (l *lateService) get() logcorev1.PageServiceServer {
	if s := l.impl.Load(); s != nil {
		return *s
	}
	return refusing{}
}

// refusing answers while the page server starts.
type refusing struct {
	logcorev1.UnimplementedPageServiceServer
}

var errStarting = status.Error(codes.Unavailable, "starting")

func (refusing) GetPages(context.Context, *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	return nil, errStarting
}

func (refusing) SpaceSize(context.Context, *logcorev1.SpaceSizeRequest) (*logcorev1.SpaceSizeResponse, error) {
	return nil, errStarting
}

func (l *lateService) GetPages(ctx context.Context, r *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	return l.get().GetPages(ctx, r)
}

func (l *lateService) SpaceSize(ctx context.Context, r *logcorev1.SpaceSizeRequest) (*logcorev1.SpaceSizeResponse, error) {
	return l.get().SpaceSize(ctx, r)
}

func (l *lateService) CreateBranch(ctx context.Context, r *logcorev1.CreateBranchRequest) (*logcorev1.CreateBranchResponse, error) {
	return l.get().CreateBranch(ctx, r)
}

// imagesOf returns images of pages of junk.
func imagesOf(pageSize uint32, numbers ...uint32) []engine.Record {
	var out []engine.Record
	for _, no := range numbers {
		data := make([]byte, pageSize)
		for i := range data {
			data[i] = 0xEE
		}
		out = append(out, engine.Record{Space: Space, Op: engine.OpImage, Page: no, PageSize: pageSize, Data: data})
	}
	return out
}

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
