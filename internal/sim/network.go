package sim

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// network carries the members' messages. Each message takes its own time, so they overtake each
// other; a link may lose and repeat them, and may be cut in one direction only.
type network struct {
	w       *world
	cut     [][]bool // from, to
	drop    float64
	repeat  float64
	slow    float64
	clients []bool // members that clients can't reach
}

func newNetwork(w *world) *network {
	n := &network{w: w, slow: 1, clients: make([]bool, nodesMax)}
	for range nodesMax {
		n.cut = append(n.cut, make([]bool, nodesMax))
	}
	return n
}

func (n *network) delay() time.Duration {
	d := n.w.s.between(n.w.plan.netMin, n.w.plan.netMax)
	if n.w.s.chance(0.02) {
		d *= 10
	}
	return time.Duration(float64(d) * n.slow)
}

// port is a member's way into the network.
type port struct {
	n    *network
	from uint64
}

// Send implements replication.Net.
func (p port) Send(m *raftpb.Message) {
	n := p.n
	from, to := p.from, m.GetTo()
	n.w.count.Messages++
	if to == 0 || to > uint64(len(n.w.nodes)) || n.cut[from-1][to-1] {
		n.w.count.Cut++
		return
	}
	if n.w.s.chance(n.drop) {
		n.w.count.Dropped++
		return
	}
	if n.w.plan.encodes {
		m = encoded(m)
	}
	times := 1
	if n.w.s.chance(n.repeat) {
		n.w.count.Repeated++
		times = 2
	}
	for range times {
		n.w.s.after(n.delay(), func() { n.deliver(from, to, m) })
	}
}

func (n *network) deliver(from, to uint64, m *raftpb.Message) {
	if n.cut[from-1][to-1] { // also what was on its way
		n.w.count.Cut++
		return
	}
	n.w.trace.note("%d to %d: message %d of term %d, index %d, %d entries", from, to, uint64(m.GetType()), m.GetTerm(), m.GetIndex(), uint64(len(m.GetEntries())))
	node := n.w.nodes[to-1]
	node.do(func() {
		if err := node.member.Step(m); err != nil {
			n.w.trace.line("%d to %d: refused: %v", from, to, err)
		}
	})
}

// request carries a client's request to a member, reply the answer back.
func (n *network) request(to uint64, do func(*node)) {
	if n.clients[to-1] || n.w.s.chance(n.drop/2) {
		return
	}
	n.w.s.after(n.delay(), func() {
		node := n.w.nodes[to-1]
		node.do(func() { do(node) })
	})
}

func (n *network) reply(from uint64, do func()) {
	if n.clients[from-1] || n.w.s.chance(n.drop/2) {
		return
	}
	n.w.s.after(n.delay(), do)
}

// heal undoes everything.
func (n *network) heal() {
	for _, row := range n.cut {
		clear(row)
	}
	clear(n.clients)
	n.drop, n.repeat, n.slow = 0, 0, 1
}

// encoded is the message as it comes out of a real network. Most runs pass the message
// itself, which is quicker; nobody may change it.
func encoded(m *raftpb.Message) *raftpb.Message {
	b, err := proto.Marshal(m)
	if err != nil {
		panic("sim: a Raft message can't be encoded: " + err.Error())
	}
	out := &raftpb.Message{}
	if err := proto.Unmarshal(b, out); err != nil {
		panic("sim: a Raft message can't be decoded: " + err.Error())
	}
	return out
}
