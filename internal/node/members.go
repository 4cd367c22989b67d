package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/pause"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

const (
	// catchUpWithin bounds the wait for a learner to catch up, when the caller gave no deadline.
	catchUpWithin = 10 * time.Minute
	askAgain      = 50 * time.Millisecond
)

// Status describes the cluster as this node knows it; what the leader knows of the others only the leader says.
func (n *Node) Status(ctx context.Context) (*logcorev1.ClusterStatusResponse, error) {
	g := n.group.Status()
	resp := &logcorev1.ClusterStatusResponse{Cluster: fmt.Sprintf("%x", n.opts.Cluster), Node: n.id, Leader: g.Leader, Term: g.Term, CommittedLsn: uint64(g.Committed), Changing: len(g.Members.Outgoing) > 0}
	var progress map[uint64]replication.Progress
	if g.Leading {
		err := n.group.Do(ctx, commandBytes, func(p *replication.Proposer) error {
			progress = p.Progress()
			return nil
		})
		if err != nil && !errors.Is(err, logcore.ErrNotLeader) {
			return nil, err
		}
	}
	add := func(ids []uint64, role string) {
		for _, id := range ids {
			node, _ := n.node(id)
			m := &logcorev1.ClusterMember{Node: id, Role: role, Address: node.Address, PeerAddress: node.PeerAddress}
			if p, ok := progress[id]; ok {
				m.MatchLsn, m.Active, m.Behind = uint64(p.Match), p.Active, p.Behind
			}
			if id == n.id {
				m.MatchLsn, m.Active = uint64(g.Last), true
			}
			resp.Members = append(resp.Members, m)
		}
	}
	add(g.Members.Voters, "voter")
	add(g.Members.Learners, "learner")
	for _, id := range g.Members.Outgoing {
		if !contains(g.Members.Voters, id) {
			add([]uint64{id}, "leaving")
		}
	}
	return resp, nil
}

func contains(ids []uint64, id uint64) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// AddMember takes the node at an address in: as a learner, and, once it has caught up, as a voter, unless it is to
// stay a learner. When ctx ends meanwhile it stays a learner; calling again goes on. It returns the node's id.
func (n *Node) AddMember(ctx context.Context, peerAddr string, learner bool) (uint64, error) {
	id, err := n.addLearner(ctx, peerAddr, 0)
	if err == nil && !learner {
		err = n.promote(ctx, id, 0)
	}
	if err == nil {
		err = n.followed(ctx)
	}
	return id, err
}

// ReplaceMember takes the node at an address in and the member old out, in one step once the new one has caught
// up. It returns the new node's id.
func (n *Node) ReplaceMember(ctx context.Context, old uint64, peerAddr string) (id uint64, err error) {
	if m := n.group.Members(); !m.Has(old) {
		return 0, fmt.Errorf("%w: %x", replication.ErrNoMember, old)
	}
	defer func() {
		if err == nil {
			err = n.followed(ctx)
		}
	}()
	id, err = n.addLearner(ctx, peerAddr, old)
	if err != nil {
		return id, err
	}
	if id == old {
		return id, fmt.Errorf("%w: the node at %s is member %x itself", logcore.ErrInvalid, peerAddr, old)
	}
	if !contains(n.group.Members().Voters, old) { // a learner goes without ado
		if err := n.promote(ctx, id, 0); err != nil {
			return id, err
		}
		return id, n.RemoveMember(ctx, old)
	}
	return id, n.promote(ctx, id, old)
}

// addLearner asks the node at an address who it is, notes where it is, and makes it a learner, if it is no
// member yet. It may have the address of the member it is to replace, which is then forgotten first.
func (n *Node) addLearner(ctx context.Context, peerAddr string, instead uint64) (uint64, error) {
	if !n.group.Leading() {
		return 0, n.notLeader()
	}
	a, err := n.identified(ctx, peerAddr)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(a.Cluster, n.opts.Cluster[:]) {
		return 0, fmt.Errorf("%w: the node at %s belongs to cluster %x, not to %x: start it with an empty directory and the address of a node of this one", logcore.ErrInvalid, peerAddr, a.Cluster, n.opts.Cluster)
	}
	members := n.group.Members()
	if members.Has(a.Node) {
		return a.Node, nil
	}
	if len(a.Groups) != len(n.members) {
		return 0, fmt.Errorf("%w: the node at %s has %d shards, this cluster %d: start it with an empty directory", logcore.ErrInvalid, peerAddr, len(a.Groups), len(n.members))
	}
	for i, g := range a.Groups {
		if own := n.members[i].group.Status(); g.Shard != uint32(i) || g.Incarnation != own.Incarnation {
			return 0, fmt.Errorf("%w: the node at %s holds another incarnation of shard %d: start it with an empty directory", logcore.ErrInvalid, peerAddr, i)
		}
	}
	if old, ok := n.node(instead); ok && old.PeerAddress == a.PeerAddress {
		if err := n.setNode(ctx, catalog.Node{ID: instead}); err != nil {
			return 0, err
		}
	}
	if err := n.setNode(ctx, catalog.Node{ID: a.Node, Address: a.Address, PeerAddress: a.PeerAddress}); err != nil {
		return 0, err
	}
	err = n.change(ctx, replication.MemberChange{AddLearners: []uint64{a.Node}})
	n.log.Info("node: a node joins as a learner", "node", fmt.Sprintf("%x", a.Node), "address", a.PeerAddress, "err", err)
	return a.Node, err
}

// sameShardsWithin bounds the wait for a node that joined before the cluster got more shards.
const sameShardsWithin = 20 * time.Second

// reopensWithin bounds the wait for a node that opens its logs again meanwhile; with one shard none does.
const reopensWithin = 5 * time.Second

// identified asks the node at an address who it is, until it has as many shards as this one: it looks for those that came after it
// joined by itself.
func (n *Node) identified(ctx context.Context, peerAddr string) (*logcorev1.IdentifyResponse, error) {
	var last *logcorev1.IdentifyResponse
	for begun := time.Now(); ; {
		a, err := Identify(ctx, peerAddr, n.opts.Certificates, nil)
		switch {
		case err != nil && last == nil && (len(n.members) == 1 || time.Since(begun) > reopensWithin):
			return nil, err
		case err == nil && (len(a.Groups) >= len(n.members) || !bytes.Equal(a.Cluster, n.opts.Cluster[:])):
			return a, nil
		case err == nil:
			last = a
		}
		if last != nil && time.Since(begun) > sameShardsWithin || !pause.For(ctx, askAgain) {
			return last, errors.Join(err, ctx.Err())
		}
	}
}

// promote makes a learner a voter once it has caught up, in the place of another member when one is given.
func (n *Node) promote(ctx context.Context, id, instead uint64) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	if instead == n.id {
		return n.leadsItself(instead)
	}
	change := replication.MemberChange{Promote: []uint64{id}}
	if instead != 0 {
		change.Remove = []uint64{instead}
	}
	for {
		if m := n.group.Members(); contains(m.Voters, id) && len(m.Outgoing) == 0 {
			if err := n.followed(ctx); err != nil {
				return err
			}
			return n.forget(ctx, instead)
		}
		err := n.change(ctx, change)
		if err != nil && !errors.Is(err, replication.ErrBehind) {
			return err
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// RemoveMember takes a member out. The leader itself must hand over first.
func (n *Node) RemoveMember(ctx context.Context, id uint64) error {
	if !n.group.Leading() {
		return n.notLeader()
	}
	if id == n.id {
		return n.leadsItself(id)
	}
	if n.group.Members().Has(id) {
		if err := n.change(ctx, replication.MemberChange{Remove: []uint64{id}}); err != nil {
			return err
		}
	} else if _, known := n.node(id); !known {
		return fmt.Errorf("%w: %x", replication.ErrNoMember, id)
	}
	if err := n.followed(ctx); err != nil {
		return err
	}
	return n.forget(ctx, id)
}

func (n *Node) leadsItself(id uint64) error {
	return fmt.Errorf("%w: member %x leads: let another one lead first (logcore cluster transfer)", replication.ErrLeads, id)
}

// forget takes a member that is gone out of the catalog.
func (n *Node) forget(ctx context.Context, id uint64) error {
	if _, known := n.node(id); id == 0 || !known || n.group.Members().Has(id) {
		return nil
	}
	return n.setNode(ctx, catalog.Node{ID: id})
}

// change carries a change of shard 0's members out.
func (n *Node) change(ctx context.Context, c replication.MemberChange) error {
	return n.members[0].change(ctx, c)
}

// change carries a change of members out, and waits until a joint configuration is left again. One that
// is in the way is waited for.
func (m *member) change(ctx context.Context, c replication.MemberChange) error {
	for {
		err := m.group.Do(ctx, commandBytes, func(p *replication.Proposer) error { return p.ChangeMembers(c) })
		if err != nil && !errors.Is(err, replication.ErrMembersChanging) {
			return err
		}
		for len(m.group.Members().Outgoing) > 0 || errors.Is(err, replication.ErrMembersChanging) {
			changed := m.group.Changed()
			if len(m.group.Members().Outgoing) == 0 {
				break
			}
			if !m.group.Leading() {
				return m.notLeader()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// notLeader says who leads shard 0.
func (n *Node) notLeader() error { return n.members[0].notLeader() }

func (m *member) notLeader() error {
	leader := m.group.Leader()
	return &logcore.NotLeaderError{Shard: m.shard, Leader: leader, Address: m.n.Address(leader)}
}

// TransferLeader asks another voter to lead a shard, 0 for the one that is furthest, and waits until one does. It
// returns who leads.
func (n *Node) TransferLeader(ctx context.Context, shard logcore.ShardID, to uint64) (uint64, error) {
	if int(shard) >= len(n.members) {
		return 0, fmt.Errorf("%w: there is no shard %d: the cluster has %d, from 0 on", logcore.ErrInvalid, shard, len(n.members))
	}
	return n.members[shard].transfer(ctx, to)
}

func (m *member) transfer(ctx context.Context, to uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	if !m.group.Leading() {
		return 0, m.notLeader()
	}
	own := m.n.id
	err := m.group.Do(ctx, commandBytes, func(p *replication.Proposer) error {
		if to == 0 {
			to = furthest(p.Progress(), m.group.Members().Voters)
		}
		if to == 0 {
			return fmt.Errorf("%w: there is no other voter in working order", replication.ErrQuorum)
		}
		return p.TransferLeader(to)
	})
	if err != nil || to == own {
		return m.group.Leader(), err
	}
	for {
		changed := m.group.Changed()
		if leader := m.group.Leader(); leader != own && leader != 0 {
			return leader, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return m.group.Leader(), fmt.Errorf("%w: member %x did not take over: %w", replication.ErrQuorum, to, ctx.Err())
		}
	}
}

func furthest(progress map[uint64]replication.Progress, voters []uint64) (id uint64) {
	best := logcore.LSN(0)
	for _, v := range voters {
		if p := progress[v]; p.Active && p.Match > best {
			id, best = v, p.Match
		}
	}
	return id
}
