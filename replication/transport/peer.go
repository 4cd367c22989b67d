package transport

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// peer is another node: what waits for it, and the link to it.
type peer struct {
	t    *Transport
	node uint64
	wake chan struct{} // to run: there is something to send, or a link came or went

	noteTimer *time.Timer // pokes
	noting    atomic.Bool // noteTimer runs

	mu        sync.Mutex
	queue     []queued // guarded by mu, as all below
	notesOnly bool     // queue holds nothing but notes, and something
	bytes     int64
	lost      bool  // something was dropped since the owner was told
	meet      bool  // it is to be dialled although nothing waits
	parted    int   // attempts left to find out whether a node that was connected has ended
	link      *link // in use; nil when there is none
	err       error // why there is none
	logged    string
}

type queued struct {
	shard logcore.ShardID
	m     *raftpb.Message
	bytes int64
}

// stream is either end of a Connect call.
type stream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// link is one stream between this node and a peer.
type link struct {
	initiator uint64 // the node that dialled
	session   uint64 // of the other node's process
	stream    stream // carries frames after the hello
	close     func()
	heard     atomic.Int64 // Unix nanoseconds of the last frame
}

func newPeer(t *Transport, node uint64) *peer {
	p := &peer{t: t, node: node, wake: make(chan struct{}, 1), err: fmt.Errorf("%w: node %x: not dialled yet", ErrUnreachable, node)}
	p.noteTimer = time.AfterFunc(time.Hour, p.noted)
	p.noteTimer.Stop()
	return p
}

func (p *peer) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// send queues a message and drops the oldest when there are too many.
func (p *peer) send(shard logcore.ShardID, m *raftpb.Message) {
	q := queued{shard: shard, m: m, bytes: 128}
	for _, e := range m.GetEntries() {
		q.bytes += int64(len(e.GetData())) + 16
	}
	p.mu.Lock()
	note := isNote(m) && p.link != nil
	if n := len(p.queue); n > 0 && supersedes(q, p.queue[n-1]) {
		p.queue[n-1] = q
	} else {
		p.queue = append(p.queue, q)
		p.bytes += q.bytes
	}
	p.notesOnly = note && (len(p.queue) == 1 || p.notesOnly)
	note = p.notesOnly
	for len(p.queue) > 1 && (len(p.queue) > queueMessagesMax || p.bytes > queueBytesMax) {
		p.bytes -= p.queue[0].bytes
		p.queue[0] = queued{}
		p.queue = p.queue[1:]
		p.lost = true
	}
	p.mu.Unlock()
	if note {
		p.later()
	} else {
		p.poke()
	}
}

// isNote reports whether a message only says what is committed by now. Nobody waits for it: the next append says it too, and
// while appends come one behind the other it is the next that carries it. By itself it costs the other node as
// much as an append, with its answer, at the very moment when the writer is to be answered. So a note
// waits noteFor for something to go with.
func isNote(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgApp && len(m.Entries) == 0 }

// noteFor is how long a note waits at most, about: a timer may be late by a millisecond.
const noteFor = 2 * time.Millisecond

// later has what waits sent in a while.
func (p *peer) later() {
	if p.noting.CompareAndSwap(false, true) {
		p.noteTimer.Reset(noteFor)
	}
}

// noted is the end of the time that notes wait.
func (p *peer) noted() {
	p.noting.Store(false)
	p.poke()
}

// supersedes reports whether a message says all that the one queued just before it does: of two heartbeats of a leader, or two
// answers to them, the newer one counts.
func supersedes(q, before queued) bool {
	t := q.m.GetType()
	return (t == raftpb.MsgHeartbeat || t == raftpb.MsgHeartbeatResp) && before.m.GetType() == t && before.shard == q.shard && before.m.GetTerm() == q.m.GetTerm() &&
		len(q.m.GetContext()) >= len(before.m.GetContext()) && q.m.GetCommit() >= before.m.GetCommit()
}

// take returns what goes into the next frame, and the link for it.
func (p *peer) take() (*link, []queued) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(p.queue) && (n == 0 || bytes+p.queue[n].bytes <= frameBytesMax) {
		bytes += p.queue[n].bytes
		n++
	}
	if p.link == nil {
		return nil, p.queue[:n:n] // stays: see drop
	}
	batch := p.queue[:n:n]
	p.queue = p.queue[n:]
	p.bytes -= bytes
	return p.link, batch
}

// toMeet reports, once, whether the node is to be dialled although nothing waits.
func (p *peer) toMeet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	meet := p.meet
	p.meet = false
	return meet
}

// drop gives up what waits: there is no way to the node now.
func (p *peer) drop() {
	p.mu.Lock()
	lost := p.lost || len(p.queue) > 0
	p.queue, p.bytes, p.lost = nil, 0, false
	p.mu.Unlock()
	if lost {
		p.t.opts.Unreachable(p.node)
	}
}

func (p *peer) state() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		return nil
	}
	return p.err
}

// admits refuses a session of the node while there is a link to another one.
func (p *peer) admits(session uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil && p.link.session != session {
		return fmt.Errorf("%w: node id %x is in use by another process: a copy of its directory must not be started; a node that was restarted is let in as soon as its old connection is gone", ErrRefused, p.node)
	}
	return nil
}

// adopt makes l the link in use, unless there is a better one: of two that were dialled at
// the same time both nodes keep the one that the lower node id dialled. It is refused when another process
// has the node's id.
func (p *peer) adopt(l *link) error {
	l.heard.Store(time.Now().UnixNano())
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.link
	switch {
	case old == nil:
	case old.session != l.session:
		return fmt.Errorf("%w: node id %x is in use by another process", ErrRefused, p.node)
	case old.initiator < l.initiator:
		return fmt.Errorf("%w: there is a link already", errDoubled)
	default:
		old.close()
	}
	p.link, p.err, p.parted = l, nil, 0
	if p.logged != "" {
		p.t.log.Info("transport: node is connected", "node", p.node)
		p.logged = ""
	}
	p.poke()
	return nil
}

var errDoubled = fmt.Errorf("%w: doubled", ErrRefused)

// part forgets a link that ended.
func (p *peer) part(l *link, err error) {
	l.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == l {
		p.link = nil
		p.err = fmt.Errorf("%w: node %x: %w", ErrUnreachable, p.node, err)
		p.lost, p.meet, p.parted = true, true, partedTries
		p.poke()
	}
}

// failed notes why the node can't be reached; it is logged when the reason changes.
func (p *peer) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if text := err.Error(); text != p.logged && p.t.stopped.Err() == nil {
		p.t.log.Warn("transport: node is not connected", "node", fmt.Sprintf("%x", p.node), "err", err)
		p.logged = text
	}
}

// run sends what waits, and dials when there is no link.
func (p *peer) run() {
	ctx := p.t.stopped
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	var conn *grpc.ClientConn
	var connAddr string
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	defer p.noteTimer.Stop()
	backoff, nextDial := backoffMin, time.Time{}
	for ctx.Err() == nil {
		l, batch := p.take()
		switch {
		case l != nil && len(batch) > 0:
			backoff = backoffMin
			p.transmit(l, batch)
			continue
		case l != nil && time.Since(time.Unix(0, l.heard.Load())) > silentMax:
			p.part(l, fmt.Errorf("silent for %v", silentMax))
			continue
		case l == nil && len(batch) > 0 && time.Now().Before(nextDial):
			p.drop()
		case l == nil && (len(batch) > 0 || p.toMeet()):
			if p.connect(ctx, &conn, &connAddr) {
				continue
			}
			p.drop()
			nextDial, backoff = time.Now().Add(backoff), min(2*backoff, backoffMax)
		}
		select {
		case <-p.wake:
		case <-ping.C:
			if l != nil {
				p.transmit(l, nil)
			}
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	if l != nil {
		p.part(l, context.Canceled)
	}
}

// connect dials the node where it is said to be, and reports whether there is a link now.
func (p *peer) connect(ctx context.Context, conn **grpc.ClientConn, connAddr *string) bool {
	addr, known := p.t.opts.Resolve(p.node)
	if *conn != nil && addr != *connAddr {
		(*conn).Close()
		*conn = nil
	}
	*connAddr = addr
	if !known {
		p.failed(fmt.Errorf("%w: node %x: its address is not known here", ErrUnreachable, p.node))
		return false
	}
	if err := p.dial(ctx, addr, conn); err != nil {
		if p.ended(err) {
			p.t.opts.Gone(p.node)
		}
		p.failed(fmt.Errorf("%w: node %x at %s: %w", ErrUnreachable, p.node, addr, err))
		return false
	}
	return true
}

// partedTries is how often a node that was just connected is dialled to find out whether its process has ended.
const partedTries = 5

// ended reports whether a failed attempt says that the process of a node that was connected has ended. The first
// attempt may only find out that the old connection is gone.
func (p *peer) ended(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parted == 0 {
		return false
	}
	if strings.Contains(err.Error(), syscall.ECONNREFUSED.Error()) { // gRPC has it as text only
		p.parted = 0
		return true
	}
	p.parted--
	p.meet = p.parted > 0
	return false
}

// transmit sends one frame.
func (p *peer) transmit(l *link, batch []queued) {
	size := 0
	for _, q := range batch {
		n, _, _ := groupSize(q.shard, q.m)
		size += n
	}
	var raw wire.Raw
	b := raw.New(size)
	for _, q := range batch {
		with, err := appendGroup(b, q.shard, q.m)
		if err != nil {
			p.t.log.Error("transport: a message can't be encoded", "type", q.m.GetType(), "err", err)
			continue
		}
		b = with
	}
	raw.Set(b)
	if err := l.stream.SendMsg(&raw); err != nil {
		p.part(l, err)
		p.drop()
		return
	}
	p.mu.Lock()
	lost := p.lost
	p.lost = false
	p.mu.Unlock()
	if lost {
		p.t.opts.Unreachable(p.node)
	}
}

// receive hands on what comes over a link, until it ends.
func (p *peer) receive(l *link) error {
	var raw wire.Raw
	defer raw.Free()
	for {
		if err := l.stream.RecvMsg(&raw); err != nil {
			return err
		}
		l.heard.Store(time.Now().UnixNano())
		err := readFrame(raw.Bytes(), func(shard logcore.ShardID, m *raftpb.Message) error {
			if m.GetFrom() != p.node || m.GetTo() != p.t.opts.Node {
				return fmt.Errorf("%w: a message from member %x to %x came from node %x to %x", ErrRefused, m.GetFrom(), m.GetTo(), p.node, p.t.opts.Node)
			}
			p.t.opts.Deliver(shard, m)
			return nil
		})
		raw.Free()
		if err != nil {
			return err
		}
	}
}
