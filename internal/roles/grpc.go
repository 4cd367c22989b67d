package roles

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

const (
	messageSlack   = 1 << 20 // what a message holds beside the payload of its entries
	windowBytes    = 4 << 20 // flow control: enough for the large batches of a fast loopback
	drainWithin    = 3 * time.Second
	pingEvery      = 30 * time.Second
	pingTimeout    = 10 * time.Second
	pingMinAllowed = 5 * time.Second
)

// newServer returns a gRPC server that takes messages with payloads of up to entryBytesMax.
func newServer(entryBytesMax int64) *grpc.Server {
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(int(entryBytesMax)+messageSlack),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(4*windowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMinAllowed, PermitWithoutStream: true}),
	)
}

// serve adds health and reflection to srv and serves it on l until the group stops.
func serve(g *group, srv *grpc.Server, l net.Listener) *health.Server {
	h := health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, h)
	reflection.Register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); err != nil {
			g.fail("grpc", err)
		}
	}()
	g.add("grpc", func(context.Context) error {
		h.Shutdown()
		stopServer(srv)
		<-done
		return nil
	})
	return h
}

// stopServer lets calls in flight end for a moment; those that follow a log never
// end by themselves and are cut off.
func stopServer(srv *grpc.Server) {
	drained := make(chan struct{})
	go func() {
		srv.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainWithin):
		srv.Stop()
		<-drained
	}
}
