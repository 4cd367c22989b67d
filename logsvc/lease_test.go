package logsvc

import (
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// TestHeldLease: a channel renews its writer's lease where the next opening looks for it: also after another leadership began, and
// after the writer's lease was given back and had by another.
func TestHeldLease(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	l := leases{duration: time.Second, now: func() time.Time { return now }}
	const log logcore.LogID = 7
	var held heldLease
	renewed := func(what string) {
		t.Helper()
		now = now.Add(10 * time.Second) // every lease is over
		if left := l.left(log); left != 0 {
			t.Fatalf("%s: %v are left of a lease that is over", what, left)
		}
		l.renewHeld(&held, log, now)
		if left := l.left(log); left != time.Second {
			t.Fatalf("%s: %v are left after a renewal", what, left)
		}
	}
	l.enter(1, now)
	renewed("the first append")
	renewed("another append")
	l.enter(2, now)
	renewed("another leadership")
	l.release(log)
	held = heldLease{} // the next writer's channel
	renewed("another writer")
	l.renew(log)
	renewed("and beside a call that renews it")
	if len(l.of) != 1 {
		t.Errorf("%d leases of one log", len(l.of))
	}
}
