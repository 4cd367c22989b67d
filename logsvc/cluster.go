package logsvc

import (
	"context"
	"errors"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// Membership is what the service asks of the cluster that its group belongs to. Its methods may be used by many
// goroutines. Those that change something are logcore.ErrNotLeader where the group isn't led from.
type Membership interface {
	// Status describes the members.
	Status(ctx context.Context) (*logcorev1.ClusterStatusResponse, error)
	// AddMember takes the node at an address in and returns its id once it votes, or, for a learner, once it is one.
	AddMember(ctx context.Context, peerAddr string, learner bool) (uint64, error)
	// RemoveMember takes a member out.
	RemoveMember(ctx context.Context, node uint64) error
	// ReplaceMember takes a node in and a member out, in one step.
	ReplaceMember(ctx context.Context, node uint64, peerAddr string) (uint64, error)
	// TransferLeader asks another member to lead a shard, 0 for any that is fit, and returns who does.
	TransferLeader(ctx context.Context, shard logcore.ShardID, node uint64) (uint64, error)
	// AddShards gives a node that is alone more shards: it will be closed and opened again with so many.
	AddShards(ctx context.Context, shards int) error
}

// membership returns the cluster, or why there is none.
func (a admin) membership() (Membership, error) {
	if a.s.opts.Membership == nil {
		return nil, status.Error(codes.FailedPrecondition, "logsvc: this service is no node of a cluster: start it with peer_listen")
	}
	return a.s.opts.Membership, nil
}

// memberStatus gives refusals of the cluster their code.
func memberStatus(err error) error {
	for _, refusal := range []error{replication.ErrQuorum, replication.ErrLeads, replication.ErrBehind, replication.ErrMembersChanging, replication.ErrStaleMember} {
		if errors.Is(err, refusal) {
			return status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	if errors.Is(err, replication.ErrNoMember) {
		return status.Error(codes.NotFound, err.Error())
	}
	var hint *logcore.NotLeaderError
	if errors.As(err, &hint) {
		return wire.ToStatus(hint, "")
	}
	return wire.ToStatus(err, "")
}

// ClusterStatus implements logcorev1.AdminServiceServer.
func (a admin) ClusterStatus(ctx context.Context, _ *logcorev1.ClusterStatusRequest) (*logcorev1.ClusterStatusResponse, error) {
	m, err := a.membership()
	if err != nil {
		return nil, err
	}
	resp, err := m.Status(ctx)
	if err != nil {
		return nil, memberStatus(err)
	}
	logs := a.s.shards.logs()
	for i, s := range a.s.shards.all {
		g := s.group.Status()
		resp.Shards = append(resp.Shards, &logcorev1.ShardPlacement{Shard: uint32(i), Leader: g.Leader, Term: g.Term, CommittedLsn: uint64(g.Committed),
			Voters: g.Members.Voters, Learners: g.Members.Learners, Logs: uint64(logs[i]), LoadBytes: uint64(s.load.now()), Quiet: g.Quiet})
	}
	return resp, nil
}

// AddMember implements logcorev1.AdminServiceServer.
func (a admin) AddMember(ctx context.Context, req *logcorev1.AddMemberRequest) (*logcorev1.AddMemberResponse, error) {
	m, err := a.membership()
	if err != nil {
		return nil, err
	}
	node, err := m.AddMember(ctx, req.PeerAddress, req.Learner)
	return &logcorev1.AddMemberResponse{Node: node}, memberStatus(err)
}

// RemoveMember implements logcorev1.AdminServiceServer.
func (a admin) RemoveMember(ctx context.Context, req *logcorev1.RemoveMemberRequest) (*logcorev1.RemoveMemberResponse, error) {
	m, err := a.membership()
	if err != nil {
		return nil, err
	}
	return &logcorev1.RemoveMemberResponse{}, memberStatus(m.RemoveMember(ctx, req.Node))
}

// ReplaceMember implements logcorev1.AdminServiceServer.
func (a admin) ReplaceMember(ctx context.Context, req *logcorev1.ReplaceMemberRequest) (*logcorev1.ReplaceMemberResponse, error) {
	m, err := a.membership()
	if err != nil {
		return nil, err
	}
	node, err := m.ReplaceMember(ctx, req.Node, req.PeerAddress)
	return &logcorev1.ReplaceMemberResponse{Node: node}, memberStatus(err)
}

// TransferLeader implements logcorev1.AdminServiceServer.
func (a admin) TransferLeader(ctx context.Context, req *logcorev1.TransferLeaderRequest) (*logcorev1.TransferLeaderResponse, error) {
	m, err := a.membership()
	if err != nil {
		return nil, err
	}
	leader, err := m.TransferLeader(ctx, logcore.ShardID(req.Shard), req.Node)
	return &logcorev1.TransferLeaderResponse{Leader: leader}, memberStatus(err)
}

// AddShards implements logcorev1.AdminServiceServer.
func (a admin) AddShards(ctx context.Context, req *logcorev1.AddShardsRequest) (*logcorev1.AddShardsResponse, error) {
	m, err := a.membership()
	if err != nil {
		return nil, err
	}
	return &logcorev1.AddShardsResponse{}, memberStatus(m.AddShards(ctx, int(min(req.Shards, math.MaxInt32))))
}
