// Package node makes a process a node of a cluster: a member of every shard's Raft group with the
// transport to the others, the service that they ask (who are you, give me entries), joining,
// catching up, and the changes of the members.
//
// A node's id is the Raft id of its members: random, kept in the state files. A node that comes back with an
// empty directory is another node, which the cluster takes in as a learner; under the old id nobody
// votes any more. Where the nodes are is in the catalog of shard 0, and who the members are is decided there:
// the other shards follow, and their leaderships are spread over the nodes.
package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/replication/transport"
)

// Options configures a Node.
type Options struct {
	// Cluster is the id of the cluster. Required.
	Cluster [16]byte
	// Log configures the hot log of shard 0; Log.Dir is its directory, the other shards' are beside it.
	Log hotlog.Options
	// LogOf configures the hot log of any shard; nil means as Log, without metrics but for shard 0.
	LogOf func(logcore.ShardID) hotlog.Options
	// Shards is how many shards a cluster that this node founds is to have; 0 means 1.
	Shards int
	// Listener takes the other nodes' connections. Required. The node closes it.
	Listener net.Listener
	// PeerAddress is where others reach Listener, Address where the services of this process are; HOST:PORT.
	// An empty PeerAddress means Listener's own. Address is required.
	PeerAddress, Address string
	// Certificates for mutual TLS between nodes; nil means plain text, on loopback addresses only.
	Certificates *certs.Certificates
	// Archived yields the archived entries of [from, to] of a shard as spans of the hot log; nil when there is no
	// archive.
	Archived func(ctx context.Context, shard logcore.ShardID, from, to logcore.LSN) iter.Seq2[segment.Span, error]
	// Reopen is told that the node is to be closed and opened again, with more shards. It must return at once; nil means that
	// nobody would do that.
	Reopen func(*MoreShards)
	// FetchBytesPerSecond bounds what one node that catches up is sent; 0 means 128 MiB.
	FetchBytesPerSecond int64
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Listener == nil || o.Address == "" {
		return o, fmt.Errorf("%w: node.Options: Listener and Address are required", logcore.ErrInvalid)
	}
	if o.PeerAddress == "" {
		o.PeerAddress = o.Listener.Addr().String()
	}
	if o.FetchBytesPerSecond == 0 {
		o.FetchBytesPerSecond = 128 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Log.Corruptions == nil {
		o.Log.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "corruptions"})
	}
	if o.LogOf == nil {
		dir := filepath.Dir(o.Log.Dir)
		o.LogOf = func(shard logcore.ShardID) hotlog.Options {
			if shard == 0 {
				return o.Log
			}
			l := o.Log
			l.Dir, l.Shard, l.Registerer = shardDir(dir, shard), shard, nil
			return l
		}
	}
	return o, nil
}

// Node is an open node. Its methods may be used by many goroutines.
type Node struct {
	opts      Options
	id        uint64
	log       *slog.Logger
	transport *transport.Transport
	group     *replication.Group // of shard 0: where the nodes are is in its catalog
	members   []*member          // of every shard; never changes
	feeds     chan *member       // those that are to be fed; each is in it once at most
	seeds     map[uint64]string  // peer addresses that the catalog may not have yet; never changes
	written   map[uint64]string  // what the peers file says; announceLoop's

	running sync.WaitGroup
	stop    context.CancelFunc
	stopped context.Context
	now     func() time.Time                     // the clock of what it sends; tests have one of their own
	after   func(time.Duration) <-chan time.Time // of it
}

// Open opens the node's member and connects it with the others. A directory that was joined (Join) or
// used before keeps its identity; a fresh one begins a group of one.
func Open(ctx context.Context, opts Options) (*Node, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{opts: opts, log: opts.Logger, feeds: make(chan *member, catalog.ShardsMax), now: time.Now, after: time.After}
	n.stopped, n.stop = context.WithCancel(context.Background())
	if n.seeds, err = readSeeds(opts.Log.Dir); err != nil {
		return nil, errors.Join(err, opts.Listener.Close())
	}
	n.written = n.seeds
	if err := n.start(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// quietAfter is after how long without anything to do a shard's group falls quiet.
const quietAfter = 2 * time.Second

// member is the node's part of one shard.
type member struct {
	n     *Node
	shard logcore.ShardID
	group *replication.Group
	// toFeed is what OnSnapshot was told of and nobody has begun to do; the newest only.
	toFeed atomic.Pointer[raftpb.Message]
}

// lateNet is the net of a group whose transport needs the member's id first.
type lateNet struct {
	n     *Node
	shard logcore.ShardID
	ready *atomic.Bool // n.transport is set
}

func (l *lateNet) Send(m *raftpb.Message) {
	if l.ready.Load() {
		l.n.transport.Send(l.shard, m)
	}
}

func (n *Node) start(ctx context.Context) (err error) {
	var ready atomic.Bool
	waiting := map[logcore.ShardID]*member{}
	groups, err := OpenGroups(ctx, GroupsOptions{Log: n.opts.LogOf, Shards: n.opts.Shards, Logger: n.log, Group: func(o *replication.Options) {
		m := &member{n: n, shard: o.Log.Shard}
		waiting[m.shard] = m
		o.Net, o.OnSnapshot = &lateNet{n: n, shard: m.shard, ready: &ready}, m.needsFeed
		if m.shard != 0 { // shard 0 has the cluster's own business: what a node does is known there soonest
			o.QuietAfter = quietAfter
		}
	}})
	for _, g := range groups {
		m := waiting[g.Shard()]
		m.group = g
		n.members = append(n.members, m)
	}
	if err != nil {
		return errors.Join(err, n.opts.Listener.Close())
	}
	n.group = groups[0]
	n.id = n.group.Status().Member
	n.transport, err = transport.New(transport.Options{Cluster: n.opts.Cluster, Node: n.id, Certificates: n.opts.Certificates, Logger: n.log,
		Deliver: n.deliver, Resolve: n.resolve, Unreachable: n.unreachable, Gone: n.gone, Backend: &peerService{n: n}})
	if err != nil {
		return errors.Join(err, n.opts.Listener.Close())
	}
	if err := n.transport.Serve(n.opts.Listener); err != nil {
		return err
	}
	ready.Store(true)
	for _, id := range n.group.Members().All() {
		n.transport.Meet(id)
	}
	n.running.Go(n.feedLoop)
	n.running.Go(n.announceLoop)
	if n.opts.Reopen != nil && !n.group.Members().Has(n.id) {
		n.running.Go(n.growLoop)
	}
	if len(n.members) > 1 {
		n.running.Go(n.followLoop)
	}
	return nil
}

func (n *Node) unreachable(id uint64) {
	for _, m := range n.members {
		m.group.Unreachable(id)
	}
}

func (n *Node) gone(id uint64) {
	for _, m := range n.members {
		m.group.Gone(id)
	}
}

// Group returns the node's member of shard 0.
func (n *Node) Group() *replication.Group { return n.group }

// Groups returns the node's members of all shards, by shard.
func (n *Node) Groups() []*replication.Group {
	out := make([]*replication.Group, len(n.members))
	for i, m := range n.members {
		out[i] = m.group
	}
	return out
}

// ID returns the node's id.
func (n *Node) ID() uint64 { return n.id }

// PeerAddress returns where other nodes reach this one.
func (n *Node) PeerAddress() string { return n.opts.PeerAddress }

// Close hands the leadership over, leaves the others and closes the member.
func (n *Node) Close() error {
	n.handOver()
	n.stop()
	if n.transport != nil {
		n.transport.Close()
	} else {
		n.opts.Listener.Close()
	}
	n.running.Wait()
	var errs []error
	for _, m := range n.members {
		errs = append(errs, m.group.Close())
	}
	return errors.Join(errs...)
}

// handOverWithin bounds the wait for another member to lead instead of one that is about to close.
const handOverWithin = 2 * time.Second

// handOver lets another voter lead each shard that this node leads, if there is one that is fit: appends go on sooner than
// when the others find out by themselves.
func (n *Node) handOver() {
	ctx, cancel := context.WithTimeout(n.stopped, handOverWithin)
	defer cancel()
	var running sync.WaitGroup
	for _, m := range n.members {
		if !m.group.Leading() || len(m.group.Members().Voters) < 2 {
			continue
		}
		running.Go(func() {
			if to, err := m.transfer(ctx, 0); err != nil {
				n.log.Warn("node: the leadership was not handed over", "shard", m.shard, "err", err)
			} else {
				n.log.Info("node: the leadership was handed over", "shard", m.shard, "to", fmt.Sprintf("%x", to))
			}
		})
	}
	running.Wait()
}

func (n *Node) deliver(shard logcore.ShardID, m *raftpb.Message) {
	if int(shard) < len(n.members) {
		n.members[shard].group.Deliver(m)
	}
}

// resolve says where a node is: what the catalog says, or what the join was told.
func (n *Node) resolve(id uint64) (addr string, ok bool) {
	if node, ok := n.node(id); ok {
		return node.PeerAddress, true
	}
	addr, ok = n.seeds[id]
	return addr, ok
}

func (n *Node) node(id uint64) (node catalog.Node, ok bool) {
	n.group.View(func(s *catalog.State) { node, ok = s.Node(id) })
	return node, ok
}

// Address returns where the services of a node are; empty when that is not known.
func (n *Node) Address(id uint64) string {
	node, _ := n.node(id)
	return node.Address
}

// announceEvery is how often a leader looks whether the catalog has its own addresses right.
const announceEvery = 200 * time.Millisecond

// announceLoop keeps this node's addresses in the catalog while it leads, and those of the others in the peers file.
func (n *Node) announceLoop() {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.stopped.Done():
			return
		case <-tick.C:
		}
		n.keepSeeds()
		if !n.group.Leading() {
			continue
		}
		want := catalog.Node{ID: n.id, Address: n.opts.Address, PeerAddress: n.opts.PeerAddress}
		if have, ok := n.node(n.id); ok && have == want {
			continue
		}
		if err := n.setNode(n.stopped, want); err != nil && n.stopped.Err() == nil {
			n.log.Warn("node: the addresses of this node are not in the catalog", "err", err)
		}
	}
}

// keepSeeds writes the peers file when the catalog knows of others than it does: what is there counts until
// the next start has a catalog, and when the log can't be opened.
func (n *Node) keepSeeds() {
	now := map[uint64]string{}
	n.group.View(func(s *catalog.State) {
		for _, node := range s.Nodes() {
			if node.ID != n.id && len(now) < seedsMax {
				now[node.ID] = node.PeerAddress
			}
		}
	})
	if len(now) == 0 || maps.Equal(now, n.written) {
		return
	}
	if err := writeSeeds(n.opts.Log.Dir, now); err != nil {
		n.log.Warn("node: the peers file was not written", "err", err)
		return
	}
	n.written = now
}

// setNode writes where a node is.
func (n *Node) setNode(ctx context.Context, node catalog.Node) error {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	return n.group.Do(ctx, commandBytes, func(p *replication.Proposer) error {
		if have, ok := p.Catalog().Node(node.ID); have == node || !ok && node.PeerAddress == "" {
			p.WaitFor(p.Catalog().LSN)
			return nil
		}
		_, err := p.Command(catalog.Command{Op: catalog.OpNode, Node: node.ID, Name: node.Address, Writer: node.PeerAddress})
		return err
	})
}

const (
	commandWithin = 10 * time.Second
	commandBytes  = 1 << 10
)
