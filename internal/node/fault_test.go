package node

import (
	"errors"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/brokenfiles"
)

// TestLeaderDiskFails (F5, I10): a leader whose disk refuses a write acknowledges nothing more; the others go on without
// what only it had. Opened again it finds what its disk really holds, follows, and has the same bytes.
func TestLeaderDiskFails(t *testing.T) {
	nodes := three(t)
	for range 20 {
		appendOne(t, make([]byte, 4<<10), nodes...)
	}
	leader := leaderOf(t, nodes...)
	brokenfiles.Under(t, leader.dir)
	var others []*process
	for _, p := range nodes {
		if p != leader {
			others = append(others, p)
		}
	}
	err := leader.setNode(within(t), catalog.Node{ID: leader.ID(), Address: "127.0.0.1:9", PeerAddress: leader.addr}) // anything that writes
	if err == nil {
		t.Fatal("acknowledged on a broken disk")
	}
	for range 20 {
		appendOne(t, make([]byte, 4<<10), others...)
	}
	until(t, "the group of the broken disk has ended", func() bool { return errors.Is(leader.Group().Err(), logcore.ErrPoisoned) })
	leader.end()
	leader.start()
	appendOne(t, []byte("all three"), nodes...)
	level(t, nodes...)
	sameSegments(t, nodes...)
}

// TestHandsOver: a leader that closes lets another one lead first; nobody waits for an election timeout.
func TestHandsOver(t *testing.T) {
	nodes := three(t)
	leader := leaderOf(t, nodes...)
	term := leader.Group().Term()
	until(t, "the others are in contact", func() bool {
		st, err := leader.Status(within(t))
		active := 0
		for _, m := range st.GetMembers() {
			if m.Active {
				active++
			}
		}
		return err == nil && active == 3
	})
	leader.end()
	var others []*process
	for _, p := range nodes {
		if p != leader {
			others = append(others, p)
		}
	}
	next := leaderOf(t, others...)
	if next.Group().Term() != term+1 {
		t.Fatalf("term %d after %d", next.Group().Term(), term)
	}
	appendOne(t, []byte("goes on"), others...)
}
