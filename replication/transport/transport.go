// Package transport carries the messages of all groups between the nodes of a cluster: one
// stream per pair of nodes, both ways, over gRPC.
//
// What is sent to a node waits in a queue of its own, bounded; when it is full the oldest messages are
// dropped, as a network may, and nobody ever waits: Raft sends what matters again. Everything that waits
// goes in one frame, so the heartbeats of many groups share it. A node that said nothing for a while is
// unreachable, and dialled again.
//
// Two nodes introduce themselves before anything else: cluster, node id, session and clock. One of another
// cluster, under an id that another process has, or with a clock that is far off, is refused with the
// reason. Connections are mutual TLS with certificates from files, read again when they change;
// plain text is for loopback addresses only.
package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const (
	// A node's queue: raft messages beyond it push out the oldest.
	queueMessagesMax = 4096
	queueBytesMax    = 64 << 20
	frameBytesMax    = 4 << 20 // of one frame; one longer message goes alone
	messageBytesMax  = 96 << 20

	pingEvery    = 500 * time.Millisecond // an idle link says that it is there
	silentMax    = 3 * time.Second        // a link that nothing came over for so long is given up
	dialWithin   = 3 * time.Second
	backoffMin   = 50 * time.Millisecond
	backoffMax   = 2 * time.Second
	windowBytes  = 8 << 20
	versionMin   = 1
	version      = 1
	peersMax     = 256
	streamsMax   = 64
	stopPatience = 5 * time.Second
)

var (
	// ErrPlainText: without certificates only loopback addresses are served and dialled.
	ErrPlainText = fmt.Errorf("%w: plain text between nodes is for loopback addresses only; give a certificate, its key and the CA (peer_cert, peer_key, peer_ca)", logcore.ErrInvalid)
	// ErrRefused: the other node would not talk to this one; the reason is in the text.
	ErrRefused = errors.New("transport: refused")
	// ErrUnreachable: the node can't be reached at present.
	ErrUnreachable = errors.New("transport: unreachable")
)

// Options configures a Transport.
type Options struct {
	// Cluster and Node are this node's. Required.
	Cluster [16]byte
	Node    uint64
	// Certificates for mutual TLS; nil means plain text, on loopback addresses only.
	Certificates *certs.Certificates
	// Deliver gets each message that came for this node, from the goroutine that received it. It must not
	// block. Required.
	Deliver func(logcore.ShardID, *raftpb.Message)
	// Resolve says where a node's peer service listens. It may be called from any goroutine. Required.
	Resolve func(node uint64) (addr string, ok bool)
	// Unreachable is told of a node that messages were lost to; nil means nobody is. It must not block.
	Unreachable func(node uint64)
	// Gone is told of a node that was connected and whose machine now says that nothing listens there: its process has ended. nil
	// means nobody is told. It must not block.
	Gone func(node uint64)
	// Backend serves what else nodes ask each other; nil means that is not offered.
	Backend logcorev1.PeerServiceServer
	// Now is the wall clock, to be held against the others'; nil means time.Now.
	Now func() time.Time
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Transport sends and receives. Its methods may be used by many goroutines.
type Transport struct {
	opts    Options
	log     *slog.Logger
	session uint64
	server  *grpc.Server
	stop    context.CancelFunc
	stopped context.Context
	running sync.WaitGroup

	mu    sync.Mutex
	peers map[uint64]*peer // guarded by mu
}

// New returns a transport that serves nothing yet.
func New(opts Options) (*Transport, error) {
	if opts.Node == 0 || opts.Deliver == nil || opts.Resolve == nil {
		return nil, fmt.Errorf("%w: transport.Options: Node, Deliver and Resolve are required", logcore.ErrInvalid)
	}
	if opts.Unreachable == nil {
		opts.Unreachable = func(uint64) {}
	}
	if opts.Gone == nil {
		opts.Gone = func(uint64) {}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	t := &Transport{opts: opts, log: opts.Logger, session: rand.Uint64() | 1, peers: map[uint64]*peer{}}
	t.stopped, t.stop = context.WithCancel(context.Background())
	creds := insecure.NewCredentials()
	if opts.Certificates != nil {
		creds = credentials.NewTLS(opts.Certificates.Server())
	}
	t.server = grpc.NewServer(grpc.Creds(creds), grpc.ForceServerCodecV2(wire.Codec{}), experimental.BufferPool(wire.Buffers), grpc.MaxRecvMsgSize(messageBytesMax), grpc.MaxSendMsgSize(messageBytesMax), grpc.MaxConcurrentStreams(streamsMax),
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(2*windowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	logcorev1.RegisterPeerServiceServer(t.server, &service{t: t, PeerServiceServer: opts.backend()})
	return t, nil
}

func (o Options) backend() logcorev1.PeerServiceServer {
	if o.Backend == nil {
		return logcorev1.UnimplementedPeerServiceServer{}
	}
	return o.Backend
}

// Serve accepts other nodes on l until Close. Without certificates l must be on a loopback address.
func (t *Transport) Serve(l net.Listener) error {
	if t.opts.Certificates == nil && !certs.Loopback(l.Addr().String()) {
		l.Close()
		return fmt.Errorf("%w: %s", ErrPlainText, l.Addr())
	}
	t.running.Go(func() {
		if err := t.server.Serve(l); err != nil && t.stopped.Err() == nil {
			t.log.Error("transport: serving other nodes ended", "err", err)
		}
	})
	return nil
}

// Send queues a message for the node it is for; it never waits. One to this node itself, or to none, is
// dropped.
func (t *Transport) Send(shard logcore.ShardID, m *raftpb.Message) {
	if p := t.peer(m.GetTo()); p != nil {
		p.send(shard, m)
	}
}

// Meet dials a node although there is nothing to send yet: a node that was just started is in contact sooner than the
// others, who take it for dead, would try again.
func (t *Transport) Meet(node uint64) {
	if p := t.peer(node); p != nil {
		p.mu.Lock()
		p.meet = true
		p.mu.Unlock()
		p.poke()
	}
}

// peer returns a node's, which it begins to look after when it is a new one.
func (t *Transport) peer(node uint64) *peer {
	if node == 0 || node == t.opts.Node {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[node]
	if p == nil && len(t.peers) < peersMax && t.stopped.Err() == nil {
		p = newPeer(t, node)
		t.peers[node] = p
		t.running.Go(p.run)
	}
	return p
}

// Connected reports whether there is a link to a node, and why there is none.
func (t *Transport) Connected(node uint64) error {
	t.mu.Lock()
	p := t.peers[node]
	t.mu.Unlock()
	if p == nil {
		return fmt.Errorf("%w: node %x: nothing was sent to it yet", ErrUnreachable, node)
	}
	return p.state()
}

// Dial returns a connection to another node's peer service, for calls other than Connect. Close it.
func (t *Transport) Dial(addr string) (*grpc.ClientConn, error) {
	return Dial(addr, t.opts.Certificates)
}

// Dial returns a connection to a node's peer service. Without certificates the address must be a
// loopback one.
func Dial(addr string, certificates *certs.Certificates) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if certificates != nil {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("%w: peer address %q: want HOST:PORT", logcore.ErrInvalid, addr)
		}
		creds = credentials.NewTLS(certificates.Client(host))
	} else if !certs.Loopback(addr) {
		return nil, fmt.Errorf("%w: %s", ErrPlainText, addr)
	}
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), experimental.WithBufferPool(wire.Buffers), grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(2*windowBytes),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{}), grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)))
}

// Close ends every link and waits for them.
func (t *Transport) Close() {
	t.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.server.GracefulStop() // handlers end because of stop
	}()
	select {
	case <-done:
	case <-time.After(stopPatience):
		t.server.Stop()
		<-done
	}
	t.running.Wait()
}
