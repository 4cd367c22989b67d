package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

func (t *Transport) hello(to uint64) *logcorev1.PeerHello {
	return &logcorev1.PeerHello{Version: version, MinVersion: versionMin, Cluster: t.opts.Cluster[:], Node: t.opts.Node, To: to, Session: t.session,
		TimeMs: uint64(t.opts.Now().UnixMilli())}
}

// check says why this node does not talk to the one that introduces itself so.
func (t *Transport) check(h *logcorev1.PeerHello) error {
	switch {
	case h == nil:
		return fmt.Errorf("%w: a node must introduce itself first", ErrRefused)
	case h.Version < versionMin || h.MinVersion > version:
		return fmt.Errorf("%w: %w: the other node speaks versions %d to %d of the protocol between nodes, this one %d to %d", ErrRefused, logcore.ErrUnsupportedVersion, h.MinVersion, h.Version, versionMin, version)
	case !bytes.Equal(h.Cluster, t.opts.Cluster[:]):
		return fmt.Errorf("%w: node %x belongs to cluster %x, node %x to cluster %x", ErrRefused, h.Node, h.Cluster, t.opts.Node, t.opts.Cluster)
	case h.Node == t.opts.Node && h.Session != t.session:
		return fmt.Errorf("%w: node id %x is in use by two processes: a copy of a node's directory must not be started", ErrRefused, h.Node)
	case h.Node == 0 || h.Node == t.opts.Node:
		return fmt.Errorf("%w: node %x talks to itself: is an address wrong?", ErrRefused, h.Node)
	case h.To != 0 && h.To != t.opts.Node:
		return fmt.Errorf("%w: this is node %x, not %x: an address was given to another node, or a node came back with an empty directory, as another one; replace the old one", ErrRefused, t.opts.Node, h.To)
	}
	if off := time.UnixMilli(int64(h.TimeMs)).Sub(t.opts.Now()); off.Abs() > logcore.ClockAheadMax {
		return fmt.Errorf("%w: the clocks of node %x and node %x are %v apart, at most %v are allowed: set them (NTP)", ErrRefused, h.Node, t.opts.Node, off.Abs().Round(time.Second), logcore.ClockAheadMax)
	}
	return nil
}

// dial makes a link to the node, over conn when there is one.
func (p *peer) dial(ctx context.Context, addr string, conn **grpc.ClientConn) error {
	if *conn == nil {
		c, err := p.t.Dial(addr)
		if err != nil {
			return err
		}
		*conn = c
	}
	streamCtx, cancel := context.WithCancel(ctx)
	giveUp := time.AfterFunc(dialWithin, cancel)
	stream, err := logcorev1.NewPeerServiceClient(*conn).Connect(streamCtx)
	if err == nil {
		err = stream.Send(&logcorev1.ConnectRequest{Hello: p.t.hello(p.node)})
	}
	var first *logcorev1.ConnectResponse
	if stream != nil {
		if first, err = stream.Recv(); err == nil {
			err = p.t.check(first.Hello)
		}
	}
	if err == nil && first.Hello.Node != p.node {
		err = fmt.Errorf("%w: it is node %x", ErrRefused, first.Hello.Node)
	}
	if !giveUp.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		(*conn).Close() // the next attempt begins with a fresh connection, and fresh certificates
		*conn = nil
		return refusal(err)
	}
	l := &link{initiator: p.t.opts.Node, session: first.Hello.Session, close: cancel, stream: stream}
	if err := p.adopt(l); err != nil {
		cancel()
		if errors.Is(err, errDoubled) {
			return nil
		}
		return err
	}
	p.t.running.Go(func() { p.part(l, p.receive(l)) })
	return nil
}

// refusal gives the other node's reason its name.
func refusal(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() == codes.FailedPrecondition {
		return fmt.Errorf("%w: %s", ErrRefused, s.Message())
	}
	return err
}

// service is the peer service: Connect is the transport's, the rest the backend's.
type service struct {
	logcorev1.PeerServiceServer
	t *Transport
}

// Connect implements logcorev1.PeerServiceServer.
func (s *service) Connect(stream grpc.BidiStreamingServer[logcorev1.ConnectRequest, logcorev1.ConnectResponse]) error {
	t := s.t
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := t.check(first.Hello); err != nil {
		t.log.Warn("transport: a node was refused", "err", err)
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	p := t.peer(first.Hello.Node)
	if p == nil {
		return status.Error(codes.Unavailable, "transport: closed, or too many nodes")
	}
	if err := p.admits(first.Hello.Session); err != nil {
		t.log.Warn("transport: a node was refused", "err", err)
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	closed := make(chan struct{})
	l := &link{initiator: first.Hello.Node, session: first.Hello.Session, close: closer(closed), stream: stream}
	if err := stream.Send(&logcorev1.ConnectResponse{Hello: t.hello(first.Hello.Node)}); err != nil {
		return err
	}
	if err := p.adopt(l); err != nil {
		if !errors.Is(err, errDoubled) {
			t.log.Warn("transport: a node was refused", "err", err)
		}
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	ended := make(chan error, 1)
	t.running.Go(func() { ended <- p.receive(l) }) // ends with the call
	select {
	case err = <-ended:
	case <-closed:
		err = errors.New("transport: closed by this node")
	case <-t.stopped.Done():
		err = context.Canceled
	}
	p.part(l, err)
	return status.Error(codes.Unavailable, err.Error())
}
