package replication

import (
	"errors"
	"testing"

	"github.com/logcore/logcore"
)

// TestRefusedIsNeverDone: a member that does not lead refuses requests with an error also
// between the moment when its full disk has room again and the one when what waited for it is
// written.
func TestRefusedIsNeverDone(t *testing.T) {
	w := newWorld(t, 5, 3)
	n := w.nodes[0]
	n.m.told, n.m.full = true, nil
	var result error
	w.request(n, func(*Proposer) error { return nil }, &result)
	if !errors.Is(result, logcore.ErrNotLeader) {
		t.Fatalf("a request at a member that does not lead: %v", result)
	}
}
