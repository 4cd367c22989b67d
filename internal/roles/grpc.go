package roles

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
)

const drainWithin = 3 * time.Second

// serve adds reflection to srv and serves it on l until the group stops.
func serve(g *group, srv *grpc.Server, l net.Listener) {
	reflection.Register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); err != nil {
			g.fail("grpc", err)
		}
	}()
	g.add("grpc", func(context.Context) error {
		stopServer(srv)
		<-done
		return nil
	})
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
