package replication

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestLateAnswers: a member that was stopped for a while answers all the heartbeats of that time at once, those of reads that
// others answered long ago included. The leader does not read the log anew for each.
func TestLateAnswers(t *testing.T) {
	w := newWorld(t, 5, 3)
	lead := w.lead()
	var stopped *node
	for _, n := range w.nodes {
		if n != lead {
			stopped = n
		}
	}
	var late []*raftpb.Message
	w.plant = func(n *node, m *raftpb.Message) bool {
		if n == stopped {
			late = append(late, m)
		}
		return n != stopped
	}
	const reads, entries = 500, 400
	for i := range entries {
		w.submit(lead, strings.Repeat("x", 200))
		if i%40 == 0 {
			lead.m.Unreachable(stopped.id) // what was on its way is taken for lost, so the leader probes
		}
		w.settle()
	}
	answered := 0
	for i := range reads {
		if err := lead.m.ReadIndex(func(err error) {
			if err == nil {
				answered++
			}
		}); err != nil {
			t.Fatal(err)
		}
		lead.m.Advance()
		w.settle()
		if i%100 == 0 {
			lead.m.Tick() // no heartbeat of the others is due in this time
			lead.m.Advance()
			w.settle()
		}
	}
	if answered != reads || len(late) < reads {
		t.Fatalf("%d of %d reads were answered, %d messages wait for the stopped member", answered, reads, len(late))
	}
	// The whole backlog is answered before the leader takes the first answer, as by a process that goes on.
	w.plant = nil
	before := lead.disk.read
	for _, m := range late {
		_ = stopped.m.Step(m) // one of an old term is refused
		stopped.m.Advance()
	}
	w.settle()
	if read := lead.disk.read - before; read > 4*entries {
		t.Errorf("the leader read %d entries for a member that lacked %d", read, entries)
	}
	w.tick()
	w.settle()
	if got, want := stopped.m.Committed(), lead.m.Committed(); got != want {
		t.Errorf("the stopped member is at LSN %d, the leader at %d", got, want)
	}
	w.check()
}
