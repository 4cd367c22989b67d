package compute

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// ofIncarnation is a page server with one page, object and space, of a log service of incarnation 7. It serves log 3 only.
type ofIncarnation struct {
	logcorev1.UnimplementedPageServiceServer
}

func wanted(id uint64) error {
	if id != 3 {
		return errors.New("another log of that name is meant")
	}
	return nil
}

func (ofIncarnation) GetPages(_ context.Context, r *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	return &logcorev1.GetPagesResponse{Lsn: r.Lsn, Incarnation: 7, Pages: []*logcorev1.Page{{Page: r.Pages[0]}}}, wanted(r.LogId)
}

func (ofIncarnation) ListSpaces(_ context.Context, r *logcorev1.ListSpacesRequest) (*logcorev1.ListSpacesResponse, error) {
	return &logcorev1.ListSpacesResponse{Lsn: r.Lsn, Incarnation: 7, Spaces: []*logcorev1.SpaceInfo{{Space: &logcorev1.Space{Lo: 1}, Pages: 1}}}, wanted(r.LogId)
}

func (ofIncarnation) GetObject(_ context.Context, r *logcorev1.GetObjectRequest) (*logcorev1.GetObjectResponse, error) {
	return &logcorev1.GetObjectResponse{Lsn: r.Lsn, Incarnation: 7}, wanted(r.LogId)
}

func (ofIncarnation) ListObjects(_ context.Context, r *logcorev1.ListObjectsRequest) (*logcorev1.ListObjectsResponse, error) {
	return &logcorev1.ListObjectsResponse{Lsn: r.Lsn, Incarnation: 7}, wanted(r.LogId)
}

// TestStoreOfAnotherIncarnation: a page server that does not reach the log service answers what an LSN held in the incarnation that
// it knew. Nothing of that gets into a data directory.
func TestStoreOfAnotherIncarnation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, served := grpc.NewServer(), make(chan error, 1)
	logcorev1.RegisterPageServiceServer(server, ofIncarnation{})
	go func() { served <- server.Serve(l) }()
	defer func() { server.Stop(); <-served }()
	c, err := client.Dial(t.Context(), client.Options{Addr: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for incarnation, want := range map[uint64]error{7: nil, 8: logcore.ErrOverloaded} {
		s := PagesOf(c, client.LogInfo{Log: "db", ID: 3, Incarnation: incarnation})
		_, pagesErr := s.Pages(t.Context(), engine.SpaceOf(1), 0, 1, 9)
		_, objectErr := s.Object(t.Context(), "o", 9)
		got := map[string]error{"pages": pagesErr, "object": objectErr, "spaces": nil, "objects": nil}
		for _, err := range s.Spaces(t.Context(), 9) {
			got["spaces"] = err
		}
		for _, err := range s.Objects(t.Context(), "", 9) {
			got["objects"] = err
		}
		for what, err := range got {
			if !errors.Is(err, want) || err != nil && want == nil {
				t.Errorf("%s, the log service has incarnation %d, the page server 7: %v", what, incarnation, err)
			}
		}
	}
}
