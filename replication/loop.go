package replication

import (
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// inbox is what others leave for the loop.
type inbox struct {
	mu       sync.Mutex
	messages []*raftpb.Message // guarded by mu
	bytes    int64             // guarded by mu, of the messages' entries
	calls    []func(*Member)   // guarded by mu
	lost     []uint64          // guarded by mu, members that messages were lost to, each once
}

// The inbox drops messages beyond these; Raft sends them again.
const (
	inboxMessagesMax = 4096
	inboxBytesMax    = 64 << 20
)

// Deliver hands over a message of another member; it doesn't wait. A message too many is dropped,
// as the network might.
func (g *Group) Deliver(m *raftpb.Message) {
	bytes := int64(0)
	for _, e := range m.GetEntries() {
		bytes += int64(len(e.GetData()))
	}
	g.inbox.mu.Lock()
	if len(g.inbox.messages) < inboxMessagesMax && (g.inbox.bytes == 0 || g.inbox.bytes+bytes <= inboxBytesMax) {
		g.inbox.messages = append(g.inbox.messages, m)
		g.inbox.bytes += bytes
	}
	g.inbox.mu.Unlock()
	g.poke()
}

// call runs f on the loop, soon; false when the loop has ended.
func (g *Group) call(f func(*Member)) bool {
	g.inbox.mu.Lock()
	g.inbox.calls = append(g.inbox.calls, f)
	g.inbox.mu.Unlock()
	g.poke()
	select {
	case <-g.stopped:
		return false
	default:
		return true
	}
}

// work does what was left for the loop.
func (g *Group) work() {
	m, h := g.member, &g.heldUp
	h.begin()
	g.inbox.mu.Lock()
	messages, calls, lost := g.inbox.messages, g.inbox.calls, g.inbox.lost
	g.inbox.messages, g.inbox.calls, g.inbox.lost, g.inbox.bytes = nil, nil, nil, 0
	g.inbox.mu.Unlock()
	for _, id := range lost {
		m.Unreachable(id)
	}
	for _, msg := range messages {
		if err := m.Step(msg); err != nil {
			g.log.Debug("replication: a message was not taken", "type", msg.GetType(), "from", msg.GetFrom(), "err", err)
		}
	}
	h.step("messages")
	for _, f := range calls {
		f(m)
	}
	h.step("calls")
	m.Advance()
	h.step("advance")
	g.heldUpEnd(h)
}

// loop drives the member until it is closed.
func (g *Group) loop() {
	defer close(g.stopped)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	m := g.member
	m.Advance() // apply what is known to be committed before the election looks at it
	if m.state.soleVoter() {
		m.Campaign() // nobody else could be elected: don't wait for the election timeout
	}
	known := m.Leader()
	for {
		g.work()
		if m.finished() {
			return
		}
		select {
		case <-g.wake:
		case <-tick.C:
			m.Tick()
			g.metrics.measure(m)
		}
		if m.quiet.changed {
			if m.quiet.changed = false; m.quiet.now {
				tick.Stop()
			} else {
				tick.Reset(tickEvery)
			}
		}
		if leader := m.Leader(); leader != known {
			if leader != 0 {
				g.metrics.changes.Inc()
			}
			known = leader
		}
	}
}
