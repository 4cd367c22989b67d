package client

import (
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// TestRouter: who is asked next.
func TestRouter(t *testing.T) {
	r := newRouter(func(addr string) (*member, error) { return &member{addr: addr}, nil })
	for _, addr := range []string{"a", "b", "c"} {
		r.members = append(r.members, &member{addr: addr})
	}
	a, b, c := r.members[0], r.members[1], r.members[2]
	r.current = a
	want := func(what string, got, want *member) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got.addr, want.addr)
		}
	}
	want("a hint", r.moved("x", a, "c"), c)
	want("every log goes with the first", r.to("y"), c)
	want("who still thinks of the old one", r.moved("y", a, ""), c)
	r.fails(c)
	want("no hint", r.moved("x", c, ""), a)
	r.moved("x", a, "b")
	want("then", r.to("x"), b)
	want("a hint at one that failed just now", r.moved("x", b, "c"), b)
	c.failed = time.Now().Add(-time.Hour)
	want("and later", r.moved("x", b, "c"), c)
	inShard := func(shard logcore.ShardID) error {
		return wire.FromStatus(wire.ToStatus(&logcore.NotLeaderError{Shard: shard}, ""))
	}
	if !r.learn("y", inShard(3)) || !r.learn("y2", inShard(3)) || r.learn("y", logcore.ErrFenced) {
		t.Error("what a refusal says of the shard")
	}
	want("a log of a shard of which nothing is known", r.to("y"), c)
	b.failed = time.Time{}
	want("a log led elsewhere", r.moved("y", c, "b"), b)
	want("does not take the others along", r.to("x"), c)
	want("but those of its shard", r.to("y2"), b)
	r.learn("y", inShard(0))
	want("and comes back", r.to("y"), c)
	r.fails(a)
	want("not the one that failed just now", r.nextLocked(c), b)
	r.fails(b)
	want("of several, the one that failed first", r.nextLocked(c), a)
	d := r.moved("x", c, "d")
	if d.addr != "d" || len(r.members) != 4 || r.to("z") != d {
		t.Errorf("an address heard of: %v, %d members", d, len(r.members))
	}
	for range 2 * membersMax {
		r.moved("x", r.to("x"), time.Now().String())
	}
	if len(r.members) != membersMax {
		t.Errorf("%d members, at most %d", len(r.members), membersMax)
	}
}
