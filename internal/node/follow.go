package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/replication"
)

// Who the members of the cluster are is decided in shard 0. Every other shard follows: whoever leads it makes its
// group what shard 0's is, as this node knows it, however long that takes and whoever ended meanwhile.

// followEvery is how often the shards that a node leads are held against shard 0.
const followEvery = 50 * time.Millisecond

// followLoop has the shards follow, and their leaderships spread.
func (n *Node) followLoop() {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	b := balance{n: n}
	for {
		select {
		case <-n.stopped.Done():
			return
		case <-tick.C:
		}
		n.watchQuiet()
		settled := true
		for _, m := range n.members[1:] {
			if !m.group.Leading() {
				continue
			}
			c, due := following(m.group.Members(), n.group.Members(), n.id)
			if !due {
				continue
			}
			settled = false
			if err := m.follow(c); err != nil && !errors.Is(err, replication.ErrBehind) && !errors.Is(err, replication.ErrMembersChanging) && n.stopped.Err() == nil {
				n.log.Warn("node: a shard's members do not follow those of shard 0 yet", "shard", m.shard, "change", fmt.Sprintf("%+v", c), "err", err)
			}
		}
		b.look(time.Now(), settled)
	}
}

// watchQuiet wakes the groups that have fallen quiet and of which a member is out of reach: those that this node leads
// when it is any member, the others when it is the leader. The link between two nodes speaks for all groups.
func (n *Node) watchQuiet() {
	lost := map[uint64]bool{}
	for _, id := range n.group.Members().All() {
		lost[id] = id != n.id && n.transport.Connected(id) != nil
	}
	for _, m := range n.members {
		if !m.group.Quiet() {
			continue
		}
		leader := m.group.Leader()
		rouse := lost[leader]
		if leader == n.id {
			for _, id := range m.group.Members().All() {
				rouse = rouse || lost[id]
			}
		}
		if rouse {
			m.group.Rouse()
		}
	}
}

// following returns what makes a shard's members those of shard 0; false when they are. Learners come before
// anything else, so that a quorum is never smaller than it was for long; who leaves does so in one step with
// those who come for it.
func following(have, want replication.Members, own uint64) (c replication.MemberChange, due bool) {
	if len(have.Outgoing) > 0 || len(want.Outgoing) > 0 {
		return c, false // it is being changed; the outcome is what counts
	}
	for _, id := range slices.Concat(want.Voters, want.Learners) {
		if !have.Has(id) {
			c.AddLearners = append(c.AddLearners, id)
		}
	}
	if len(c.AddLearners) > 0 {
		return c, true
	}
	for _, id := range want.Voters {
		if contains(have.Learners, id) {
			c.Promote = append(c.Promote, id)
		}
	}
	for _, id := range have.All() {
		if !want.Has(id) {
			c.Remove = append(c.Remove, id)
		}
	}
	return c, len(c.Promote)+len(c.Remove) > 0
}

// follow carries a change out, or hands over when it is this node that must leave.
func (m *member) follow(c replication.MemberChange) error {
	ctx, cancel := context.WithTimeout(m.n.stopped, commandWithin)
	defer cancel()
	if contains(c.Remove, m.n.id) {
		_, err := m.transfer(ctx, 0)
		return err
	}
	return m.group.Do(ctx, commandBytes, func(p *replication.Proposer) error { return p.ChangeMembers(c) })
}

// followed waits until every shard has the members of shard 0, as far as this node knows.
func (n *Node) followed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	want := n.group.Members()
	for _, m := range n.members[1:] {
		for {
			have := m.group.Members()
			if _, due := following(have, want, n.id); !due && len(have.Outgoing) == 0 {
				break
			}
			select {
			case <-time.After(askAgain):
			case <-ctx.Done():
				return fmt.Errorf("shard %d has the members %x, shard 0 has %x; it follows by itself: %w", m.shard, have.All(), want.All(), ctx.Err())
			}
			want = n.group.Members()
		}
	}
	return nil
}

// The leaderships are spread evenly over the voters. Only the node that leads most gives one away, one at a time, and
// not before everything has been in order for a while: a leadership that moves costs its writers a moment.
const (
	balanceAfter = 5 * time.Second // everything has been in order for so long
	balancePause = time.Second     // between two
)

type balance struct {
	n       *Node
	healthy time.Time // since when everything is in order; zero when it isn't
	gave    time.Time
}

// look gives a leadership away when that is due.
func (b *balance) look(now time.Time, settled bool) {
	n := b.n
	counts, ok := n.leaderships()
	if !ok || !settled {
		b.healthy = time.Time{}
		return
	}
	if b.healthy.IsZero() {
		b.healthy = now
	}
	to := giveTo(counts, n.id)
	if to == 0 || now.Sub(b.healthy) < balanceAfter || now.Sub(b.gave) < balancePause {
		return
	}
	if !n.allActive() {
		b.healthy = time.Time{}
		return
	}
	for i := len(n.members) - 1; i >= 0; i-- { // shard 0 last: its leader has the directory
		m := n.members[i]
		if !m.group.Leading() {
			continue
		}
		b.gave = now
		ctx, cancel := context.WithTimeout(n.stopped, handOverWithin)
		got, err := m.transfer(ctx, to)
		cancel()
		n.log.Info("node: leaderships are spread", "shard", m.shard, "to", fmt.Sprintf("%x", got), "err", err)
		if err != nil {
			b.healthy = time.Time{}
		}
		return
	}
}

// leaderships returns how many shards each voter leads; false when a shard has no leader, or members that are
// not those of shard 0.
func (n *Node) leaderships() (map[uint64]int, bool) {
	want := n.group.Members()
	counts := map[uint64]int{}
	for _, id := range want.Voters {
		counts[id] = 0
	}
	for _, m := range n.members {
		leader := m.group.Leader()
		if _, votes := counts[leader]; !votes || m.group.Err() != nil || len(m.group.Members().Outgoing) > 0 {
			return nil, false
		}
		counts[leader]++
	}
	return counts, true
}

// giveTo returns the voter that should take a leadership over from own; 0 when none should. Two leaderships
// more are too many, one is not: it would only go back and forth.
func giveTo(counts map[uint64]int, own uint64) (to uint64) {
	most, least := uint64(0), uint64(0)
	for id, k := range counts {
		if most == 0 || k > counts[most] || k == counts[most] && id < most {
			most = id
		}
		if least == 0 || k < counts[least] || k == counts[least] && id < least {
			least = id
		}
	}
	if most != own || counts[most] < counts[least]+2 {
		return 0
	}
	return least
}

// allActive reports whether every other member of the shards that this node leads is in contact and has what it needs.
func (n *Node) allActive() bool {
	ctx, cancel := context.WithTimeout(n.stopped, askWithin)
	defer cancel()
	for _, m := range n.members {
		if !m.group.Leading() {
			continue
		}
		active := true
		err := m.group.Do(ctx, commandBytes, func(p *replication.Proposer) error {
			last := p.Catalog().LSN
			for _, pr := range p.Progress() {
				active = active && pr.Active && !pr.Behind && pr.Match+logcore.LSN(balanceLagMax) >= last
			}
			return nil
		})
		if err != nil || !active {
			return false
		}
	}
	return true
}

// balanceLagMax is how many entries a member may be behind that counts as one in order.
const balanceLagMax = 4096
