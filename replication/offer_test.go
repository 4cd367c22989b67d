package replication

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestPieces: a batch of entries, short ones and one that is longer than a piece, goes to the others in messages of
// bounded length, with the data that Raft was not shown, and every member comes to hold it.
func TestPieces(t *testing.T) {
	w := newWorld(t, 1, 3)
	leader := w.lead()
	var longest int
	w.plant = func(_ *node, m *raftpb.Message) bool {
		bytes := 0
		for _, e := range m.GetEntries() {
			if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 && len(e.GetData()) < draftHeaderBytes {
				t.Errorf("an entry of %d bytes on the way", len(e.GetData()))
			}
			bytes += len(e.GetData())
		}
		if len(m.GetEntries()) > 1 {
			longest = max(longest, bytes)
		}
		return true
	}
	short, long := strings.Repeat("s", 1000), strings.Repeat("l", 3*pieceBytesMax/2)
	const many = 1000
	for i := range many {
		body := fmt.Sprint(i, short)
		if i == many/2 {
			body = long
		}
		// Nothing is carried out before all are queued: they are one batch.
		w.queue(leader, body)
	}
	leader.m.Advance()
	w.settle()
	w.check()
	if len(w.acked) < many {
		t.Fatalf("%d of %d entries were acknowledged", len(w.acked), many)
	}
	if longest > pieceBytesMax+len(long) || longest < pieceBytesMax/2 {
		t.Errorf("the longest message of several entries has %d bytes, want about %d", longest, pieceBytesMax)
	}
	for _, n := range w.nodes {
		if n.disk.Durable() != leader.disk.Durable() {
			t.Errorf("member %d has the log up to %d, the leader up to %d", n.id, n.disk.Durable(), leader.disk.Durable())
		}
	}
}
