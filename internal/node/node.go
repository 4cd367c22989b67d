// Package node makes a process a node of a cluster: a member of a shard's Raft group with the
// transport to the others, the service that they ask (who are you, give me entries), joining,
// catching up, and the changes of the members.
//
// A node's id is the Raft id of its member: random, kept in the state file. A node that comes back with an
// empty directory is another node, which the cluster takes in as a learner; under the old id nobody
// votes any more. Where the nodes are is in the catalog of the shard.
package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"sync"
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
	// Log configures the hot log; Log.Dir and Log.Shard are the shard's.
	Log hotlog.Options
	// Listener takes the other nodes' connections. Required. The node closes it.
	Listener net.Listener
	// PeerAddress is where others reach Listener, Address where the services of this process are; HOST:PORT.
	// An empty PeerAddress means Listener's own. Address is required.
	PeerAddress, Address string
	// Certificates for mutual TLS between nodes; nil means plain text, on loopback addresses only.
	Certificates *certs.Certificates
	// Archived yields the archived entries of [from, to] as spans of the hot log; nil when there is no
	// archive.
	Archived func(ctx context.Context, from, to logcore.LSN) iter.Seq2[segment.Span, error]
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
	return o, nil
}

// Node is an open node. Its methods may be used by many goroutines.
type Node struct {
	opts      Options
	id        uint64
	log       *slog.Logger
	transport *transport.Transport
	group     *replication.Group
	feeds     chan *raftpb.Message // what OnSnapshot was told of; the newest only
	seeds     map[uint64]string    // peer addresses that the catalog may not have yet; never changes
	written   map[uint64]string    // what the peers file says; announceLoop's

	running sync.WaitGroup
	stop    context.CancelFunc
	stopped context.Context
}

// Open opens the node's member and connects it with the others. A directory that was joined (Join) or
// used before keeps its identity; a fresh one begins a group of one.
func Open(ctx context.Context, opts Options) (*Node, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{opts: opts, log: opts.Logger, feeds: make(chan *raftpb.Message, 1)}
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

// lateNet is the net of a group whose transport needs the member's id first.
type lateNet struct {
	shard logcore.ShardID
	mu    sync.RWMutex
	t     *transport.Transport
}

func (l *lateNet) Send(m *raftpb.Message) {
	l.mu.RLock()
	t := l.t
	l.mu.RUnlock()
	if t != nil {
		t.Send(l.shard, m)
	}
}

func (n *Node) start(ctx context.Context) (err error) {
	sender := &lateNet{shard: n.opts.Log.Shard}
	if n.group, err = replication.Open(ctx, replication.Options{Log: n.opts.Log, Net: sender, OnSnapshot: n.needsFeed}); err != nil {
		return errors.Join(err, n.opts.Listener.Close())
	}
	n.id = n.group.Status().Member
	n.transport, err = transport.New(transport.Options{Cluster: n.opts.Cluster, Node: n.id, Certificates: n.opts.Certificates, Logger: n.log,
		Deliver: n.deliver, Resolve: n.resolve, Unreachable: n.group.Unreachable, Gone: n.group.Gone, Backend: &peerService{n: n}})
	if err != nil {
		return errors.Join(err, n.opts.Listener.Close())
	}
	if err := n.transport.Serve(n.opts.Listener); err != nil {
		return err
	}
	sender.mu.Lock()
	sender.t = n.transport
	sender.mu.Unlock()
	for _, id := range n.group.Members().All() {
		n.transport.Meet(id)
	}
	n.running.Go(n.feedLoop)
	n.running.Go(n.announceLoop)
	return nil
}

// Group returns the node's member.
func (n *Node) Group() *replication.Group { return n.group }

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
	if n.group != nil {
		return n.group.Close()
	}
	return nil
}

// handOverWithin bounds the wait for another member to lead instead of one that is about to close.
const handOverWithin = 2 * time.Second

// handOver lets another voter lead, if there is one that is fit: appends go on sooner than when the others find out by
// themselves.
func (n *Node) handOver() {
	if n.group == nil || !n.group.Leading() || len(n.group.Members().Voters) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(n.stopped, handOverWithin)
	defer cancel()
	if to, err := n.TransferLeader(ctx, 0); err != nil {
		n.log.Warn("node: the leadership was not handed over", "err", err)
	} else {
		n.log.Info("node: the leadership was handed over", "to", fmt.Sprintf("%x", to))
	}
}

func (n *Node) deliver(shard logcore.ShardID, m *raftpb.Message) {
	if shard == n.opts.Log.Shard {
		n.group.Deliver(m)
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
