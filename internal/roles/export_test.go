package roles

import (
	"google.golang.org/grpc"

	"github.com/logcore/logcore/logsvc"
)

// newTestServer is the gRPC server of a log service without its page server.
func newTestServer(s *logService) *grpc.Server {
	srv := grpc.NewServer(logsvc.ServerOptions(int(s.cfg.EntryBytesMax))...)
	s.register(srv)
	return srv
}
