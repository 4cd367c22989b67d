package replication

import "testing"

// TestTransferThatFails: a member is elected, hands over before it holds its first entry, and the
// message is lost. It applies the entry meanwhile, and leads once the transfer has come to nothing.
func TestTransferThatFails(t *testing.T) {
	w := newWorld(t, 9, 3)
	n := w.nodes[0]
	n.m.Campaign()
	n.m.Advance()
	for range 20 {
		for len(w.net) > 0 {
			w.deliver(0)
		}
		for _, other := range w.nodes[1:] {
			other.disk.sync(len(other.disk.pending))
			other.m.Advance()
		}
	}
	if n.m.Leading() || n.m.Leader() != n.id || n.disk.Durable() != 0 {
		t.Fatalf("void: leading %v, leader %d, durable %d", n.m.Leading(), n.m.Leader(), n.disk.Durable())
	}
	n.m.transfer = 2
	n.m.rn.TransferLeader(2)
	n.m.Advance()
	w.net = nil // MsgTimeoutNow is among them
	n.disk.sync(len(n.disk.pending))
	n.m.Advance()
	if leader := w.lead(); leader != n {
		t.Fatalf("member %d leads", leader.id)
	}
}
