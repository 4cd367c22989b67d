package node

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// fetchBytes is about how much of the log goes into one message.
const fetchBytes = 1 << 20

// peerService is what other nodes ask besides sending messages.
type peerService struct {
	logcorev1.UnimplementedPeerServiceServer
	n *Node
}

func (n *Node) owns(cluster []byte) error {
	if !bytes.Equal(cluster, n.opts.Cluster[:]) {
		return status.Errorf(codes.FailedPrecondition, "node %x belongs to cluster %x, not to %x", n.id, n.opts.Cluster, cluster)
	}
	return nil
}

// Identify implements logcorev1.PeerServiceServer.
func (s *peerService) Identify(_ context.Context, req *logcorev1.IdentifyRequest) (*logcorev1.IdentifyResponse, error) {
	n := s.n
	if len(req.Cluster) > 0 {
		if err := n.owns(req.Cluster); err != nil {
			return nil, err
		}
	}
	resp := &logcorev1.IdentifyResponse{Cluster: n.opts.Cluster[:], Node: n.id, Address: n.opts.Address, PeerAddress: n.opts.PeerAddress, TimeMs: uint64(time.Now().UnixMilli())}
	for _, m := range n.members {
		g := m.group.Status()
		resp.Groups = append(resp.Groups, &logcorev1.GroupState{Shard: uint32(m.shard), Incarnation: g.Incarnation, Term: g.Term, Leader: g.Leader, FirstLsn: uint64(g.First), CommittedLsn: uint64(g.Committed),
			Voters: g.Members.Voters, Learners: g.Members.Learners, Outgoing: g.Members.Outgoing, LearnersNext: g.Members.LearnersNext, MembersLsn: uint64(g.Members.LSN)})
	}
	return resp, nil
}

// Fetch implements logcorev1.PeerServiceServer.
func (s *peerService) Fetch(req *logcorev1.FetchRequest, stream grpc.ServerStreamingServer[logcorev1.FetchResponse]) error {
	n := s.n
	if err := n.owns(req.Cluster); err != nil {
		return err
	}
	if int(req.Shard) >= len(n.members) {
		return status.Errorf(codes.FailedPrecondition, "node %x has %d shards, not shard %d", n.id, len(n.members), req.Shard)
	}
	m := n.members[req.Shard]
	g := m.group.Status()
	if req.Incarnation != g.Incarnation {
		return status.Errorf(codes.FailedPrecondition, "node %x has shard %d of incarnation %#x, not of incarnation %#x", n.id, m.shard, g.Incarnation, req.Incarnation)
	}
	to := g.Committed
	if req.ToLsn != 0 {
		to = min(to, logcore.LSN(req.ToLsn))
	}
	return wire.ToStatus(m.fetch(stream, logcore.LSN(req.FromLsn), to), "")
}

func (m *member) fetch(stream grpc.ServerStreamingServer[logcorev1.FetchResponse], from, to logcore.LSN) error {
	n, hot := m.n, m.group.HotLog()
	pace := n.newPace()
	for lsn := from; lsn <= to; {
		last, err := runFrom(hot, lsn, to)
		if err != nil {
			return err
		}
		span, err := hot.Span(lsn, last)
		if err != nil {
			return err
		}
		err = stream.Send(&logcorev1.FetchResponse{SegmentFirstLsn: uint64(span.ID.First), FirstLsn: uint64(span.First), LastLsn: uint64(span.Last), PrevSum: span.Prev, Sum: span.Sum,
			Sealed: span.Sealed, FirstTime: uint64(span.FirstTime), LastTime: uint64(span.LastTime), Frames: span.Frames, FramesCrc32C: crc32.Checksum(span.Frames, castagnoli),
			CommittedLsn: uint64(m.group.Committed())})
		if err != nil {
			return err
		}
		lsn = last + 1
		if wait := pace.sent(len(span.Frames)); wait > 0 {
			select {
			case <-n.after(wait):
			case <-stream.Context().Done():
				return stream.Context().Err()
			case <-n.stopped.Done():
				return fmt.Errorf("node: %w", logcore.ErrClosed)
			}
		}
	}
	return nil
}

// runFrom returns the last LSN of a run of about fetchBytes from lsn on that lies in one segment.
func runFrom(hot *hotlog.Log, lsn, to logcore.LSN) (logcore.LSN, error) {
	if first := hot.First(); lsn < first {
		return 0, fmt.Errorf("%w: LSN %d, the oldest kept here is %d", logcore.ErrTrimmed, lsn, first)
	}
	for _, s := range hot.Segments() {
		if s.First <= lsn && lsn <= s.Last {
			to = min(to, s.Last)
		}
	}
	entries, err := hot.Entries(lsn, to+1, fetchBytes)
	if err != nil {
		return 0, err
	}
	return entries[len(entries)-1].LSN, nil
}
