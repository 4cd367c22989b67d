package logsvc_test

import (
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// pageServerLease is long enough for a slow machine between two reports of a test, and
// short enough to wait for.
const pageServerLease = 400 * time.Millisecond

// reporter is a page server as far as the log service sees it.
type reporter struct {
	t *testing.T
	c *client.Client
	r client.PageServerReport
}

// report says what it holds is ready, when ready, and returns the map.
func (r *reporter) report(ready bool) stripemap.Map {
	r.t.Helper()
	id, m, lease, err := r.c.ReportPageServer(testContext(r.t), r.r)
	if err != nil || lease != pageServerLease {
		r.t.Fatalf("report: lease %v, %v", lease, err)
	}
	r.r.ID = id
	if s, _ := m.Server(id); ready {
		r.r.Ready, r.r.Empty = s.Holds(), false
	}
	return m.Map
}

func reportsFrom(t *testing.T, c *client.Client, id uint64, address string) *reporter {
	return &reporter{t: t, c: c, r: client.PageServerReport{ID: id, Address: address, Empty: true}}
}

// settle lets page servers report until each says the same twice.
func settle(t *testing.T, servers ...*reporter) stripemap.Map {
	t.Helper()
	var last stripemap.Map
	for range 50 {
		before := last
		for _, r := range servers {
			last = r.report(true)
		}
		if before.Generation == last.Generation && before.Generation != 0 {
			return last
		}
	}
	t.Fatalf("it does not settle: %+v", last)
	return last
}

// TestStripesAreServedByWhoIsThere: the first page server gets all, a second one half once
// it has it; who falls silent is replaced, and who comes to its place with nothing is it.
func TestStripesAreServedByWhoIsThere(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{PageServerLease: pageServerLease}, replication.Options{})
	c := n.client(client.Options{})
	ctx := testContext(t)
	a, b := reportsFrom(t, c, 11, "10.0.0.1:7421"), reportsFrom(t, c, 22, "10.0.0.2:7421")
	m := settle(t, a)
	if s, _ := m.Server(11); s.Owns != stripemap.All {
		t.Fatalf("the only one has %d stripes", s.Owns.Len())
	}
	m = b.report(false)
	if s, _ := m.Server(22); s.Joins.Len() != stripemap.Count/2 || !s.Owns.Empty() {
		t.Fatalf("the second joins %d and owns %d", s.Joins.Len(), s.Owns.Len())
	}
	m = b.report(false)
	if s, _ := m.Server(11); s.Owns != stripemap.All {
		t.Fatal("stripes were taken away that nobody else has yet")
	}
	m = settle(t, a, b)
	one, _ := m.Server(11)
	two, _ := m.Server(22)
	if one.Owns.Len() != stripemap.Count/2 || one.Owns.Or(two.Owns) != stripemap.All {
		t.Fatalf("%d and %d stripes", one.Owns.Len(), two.Owns.Len())
	}

	// b falls silent.
	deadline := time.Now().Add(20 * time.Second)
	for {
		m = a.report(true)
		if s, _ := m.Server(11); s.Owns == stripemap.All {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody took over: %+v", m)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got, err := c.StripeMap(ctx); err != nil || got.LeaseLeft[22] != 0 || got.LeaseLeft[11] == 0 || got.Generation != m.Generation {
		t.Fatalf("%+v, %v", got, err)
	}
	// In its place comes one that has nothing, under another id: it is taken for it.
	again := reportsFrom(t, c, 33, "10.0.0.2:7421")
	if settle(t, a, again); again.r.ID != 22 {
		t.Fatalf("the one that replaces it has id %d", again.r.ID)
	}
	// One that has pages is not: two of them would be in each other's place.
	taken := reportsFrom(t, c, 44, "10.0.0.2:7421")
	taken.r.Empty = false
	if _, _, _, err := c.ReportPageServer(ctx, taken.r); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("an address of another's: %v", err)
	}

	// What was decided is in the log.
	n.stop()
	start(t, dir, n.addr, logsvc.Options{PageServerLease: pageServerLease}, replication.Options{})
	if got, err := c.StripeMap(ctx); err != nil || len(got.Servers) != 2 {
		t.Fatalf("after a restart: %+v, %v", got, err)
	}
}

// TestPageServerIsDrained: it keeps what nobody else has, and can be removed once it has nothing.
func TestPageServerIsDrained(t *testing.T) {
	c := start(t, t.TempDir(), "", logsvc.Options{PageServerLease: pageServerLease}, replication.Options{}).client(client.Options{})
	ctx := testContext(t)
	a, b := reportsFrom(t, c, 11, "10.0.0.1:7421"), reportsFrom(t, c, 22, "10.0.0.2:7421")
	settle(t, a, b)
	if err := c.RemovePageServer(ctx, 11); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("removed while it holds stripes: %v", err)
	}
	if err := c.DrainPageServer(ctx, 99, true); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("a stranger: %v", err)
	}
	for range 2 { // again is no error
		if err := c.DrainPageServer(ctx, 11, true); err != nil {
			t.Fatal(err)
		}
	}
	m := settle(t, a, b)
	if s, _ := m.Server(11); !s.Holds().Empty() || !s.Draining {
		t.Fatalf("drained: %+v", s)
	}
	if err := c.RemovePageServer(ctx, 11); err != nil {
		t.Fatal(err)
	}
	if err := c.SetStripeOwners(ctx, 9); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("nine owners: %v", err)
	}
	if err := c.SetStripeOwners(ctx, 2); err != nil {
		t.Fatal(err)
	}
	third := reportsFrom(t, c, 55, "10.0.0.5:7421")
	m = settle(t, b, third)
	for stripe := range stripemap.Count {
		if n := len(m.OwnersOf(stripe)); n != 2 {
			t.Fatalf("stripe %d has %d owners", stripe, n)
		}
	}
}
