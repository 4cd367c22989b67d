package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// A service gets more shards while its only member is alone. The member closes its logs for that and opens them again: a node's
// shards never change while it is open. Nodes that have joined, and that nobody has taken in yet, follow.

// MoreShards is why the owner of a node is asked to close it and to open it again.
type MoreShards struct {
	Shards int // that there are to be
}

// Error implements error.
func (e *MoreShards) Error() string { return fmt.Sprintf("node: there are to be %d shards", e.Shards) }

// AddShards has the owner of the node, which must be the only member of its cluster, open it again with so many shards. With as
// many as there are nothing happens.
func (n *Node) AddShards(_ context.Context, shards int) error {
	have, all := len(n.members), n.group.Members().All()
	switch {
	case shards == have:
		return nil
	case shards < have || shards > catalog.ShardsMax:
		return fmt.Errorf("%w: %d shards after %d: there can be more, never fewer, and %d at most", logcore.ErrInvalid, shards, have, catalog.ShardsMax)
	case len(all) != 1 || all[0] != n.id:
		return fmt.Errorf("%w: a cluster of %d members keeps its %d shards: only a node that is alone gets more", logcore.ErrInvalid, len(all), have)
	case n.opts.Reopen == nil:
		return fmt.Errorf("%w: start the node again with shards: %d", logcore.ErrInvalid, shards)
	}
	n.opts.Reopen(&MoreShards{Shards: shards})
	return nil
}

// growEvery is how often a node that nobody has taken in looks whether its cluster has got more shards.
const growEvery = 500 * time.Millisecond

// growLoop looks, until the node is a member, whether the cluster has more shards than when it joined.
func (n *Node) growLoop() {
	tick := time.NewTicker(growEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.stopped.Done():
			return
		case <-tick.C:
		}
		if n.group.Members().Has(n.id) {
			return
		}
		for _, addr := range n.seeds {
			a, err := Identify(n.stopped, addr, n.opts.Certificates, n.opts.Cluster[:])
			if err == nil && len(a.Groups) > len(n.members) && !takenIn(a, n.id) {
				n.opts.Reopen(&MoreShards{Shards: len(a.Groups)})
				return
			}
		}
	}
}

// takenIn reports whether a node is a member as another one knows it.
func takenIn(a *logcorev1.IdentifyResponse, id uint64) bool {
	for _, g := range a.Groups {
		if slices.Contains(slices.Concat(g.Voters, g.Learners, g.Outgoing, g.LearnersNext), id) {
			return true
		}
	}
	return false
}

// membersOf are the members that a state file names.
func membersOf(s replication.MemberState) replication.Members {
	c := s.Members
	return replication.Members{Voters: c.GetVoters(), Learners: c.GetLearners(), Outgoing: c.GetVotersOutgoing(), LearnersNext: c.GetLearnersNext(), LSN: s.MembersLSN}
}

// JoinMore gives the directory of a node that joined, and that nobody has taken in yet, the shards that its cluster has got since. The
// directory of a member it leaves as it is, and when no peer answers it does nothing.
func JoinMore(ctx context.Context, opts JoinOptions) error {
	dir := opts.Log.Dir
	state, err := replication.ReadState(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && membersOf(state).Has(state.Member) {
		return nil
	}
	if err != nil {
		return err
	}
	seeds, err := readSeeds(dir)
	if err != nil {
		return err
	}
	answers, err := ask(ctx, slices.Concat(slices.Sorted(maps.Values(seeds)), opts.Peers), opts.Certificates)
	if err != nil {
		return nil //nolint:nilerr // another time
	}
	shards := uint32(0)
	for _, a := range answers {
		if takenIn(a, state.Member) {
			return nil
		}
		shards = max(shards, uint32(len(a.Groups)))
	}
	for shard := logcore.ShardID(1); uint32(shard) < min(shards, catalog.ShardsMax); shard++ {
		o := opts
		o.Log.Dir, o.Log.Shard = shardDir(filepath.Dir(dir), shard), shard
		if err := joinShard(ctx, o, answers, state.Member); err != nil {
			return err
		}
	}
	return nil
}
