package stripemap

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// TestOfIsPinned: which page is in which stripe is part of the format of every store.
func TestOfIsPinned(t *testing.T) {
	for _, c := range []struct {
		root, space uint64
		page        uint32
		want        int
	}{{1, 0, 0, 21}, {1, 0, 127, 21}, {1, 0, 128, 40}, {2, 0, 0, 201}, {1, 1259 << 8, 0, 215}, {7, 1<<63 | 5, 1<<32 - 1, 177}} {
		if got := Of(c.root, c.space, c.page); got != c.want {
			t.Errorf("Of(%d, %d, %d) = %d, want %d", c.root, c.space, c.page, got, c.want)
		}
	}
}

// TestOfSpreads: the groups of one gibibyte of 8 KiB pages, and the first groups of many
// small logs, spread so that a quarter of the stripes has close to a quarter of them.
func TestOfSpreads(t *testing.T) {
	count := func(n int, of func(i int) int) (quarter int) {
		for i := range n {
			if of(i) < Count/4 {
				quarter++
			}
		}
		return quarter
	}
	const n = 1024
	for name, of := range map[string]func(int) int{
		"one log":   func(i int) int { return Of(1, 42, uint32(i*GroupPages)) },
		"many logs": func(i int) int { return Of(uint64(i+1), 0, 0) },
		"relations": func(i int) int { return Of(1, uint64(16384+i)<<8, 0) },
	} {
		if got := count(n, of); got < n/5 || got > 3*n/10 {
			t.Errorf("%s: %d of %d groups in a quarter of the stripes", name, got, n)
		}
	}
}

func TestSet(t *testing.T) {
	s := Set{}.With(0).With(63).With(64).With(255)
	if got := s.Stripes(); !slices.Equal(got, []int{0, 63, 64, 255}) || s.Len() != 4 || s.Has(1) || !s.Has(255) {
		t.Fatalf("%v", got)
	}
	if back, ok := SetOf(s.Bytes()); !ok || back != s || s.Bytes()[0] != 1 || s.Bytes()[31] != 0x80 {
		t.Fatalf("%x", s.Bytes())
	}
	if _, ok := SetOf(s.Bytes()[1:]); ok {
		t.Fatal("31 bytes are a set")
	}
	if rest := All.Without(s); rest.Len() != Count-4 || !rest.And(s).Empty() || rest.Or(s) != All {
		t.Fatal("set operations")
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	m := Map{Servers: []Server{{ID: 3, Address: "a:1", Owns: Set{}.With(1).With(2), Joins: Set{}.With(3)}, {ID: 5, Address: "b:1", Owns: Set{}.With(2)}}}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Change{
		"server 0":              {Kind: Put, Address: "c:1"},
		"no port":               {Kind: Put, Server: 9, Address: "c"},
		"address taken":         {Kind: Put, Server: 9, Address: "a:1"},
		"remove a holder":       {Kind: Remove, Server: 5},
		"a stranger":            {Kind: Join, Server: 9, Stripes: All},
		"join what it owns":     {Kind: Join, Server: 3, Stripes: Set{}.With(1)},
		"own what it has not":   {Kind: Own, Server: 3, Stripes: Set{}.With(9)},
		"leave what it has not": {Kind: Leave, Server: 3, Stripes: Set{}.With(9)},
		"the last owner leaves": {Kind: Leave, Server: 3, Stripes: Set{}.With(1)},
		"no stripe":             {Kind: Join, Server: 3},
		"no owners":             {Kind: Owners},
		"many owners":           {Kind: Owners, Count: OwnersMax + 1},
	} {
		if err := m.Check(c); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Check(Change{Kind: 99, Server: 3}); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := m.Apply(Change{Kind: Leave, Server: 3, Stripes: Set{}.With(2).With(3)}); err != nil {
		t.Errorf("one of two owners leaves: %v", err)
	}
	full := Map{}
	for i := range ServersMax {
		full, _ = full.Apply(Change{Kind: Put, Server: uint64(i + 1), Address: fmt.Sprintf("a:%d", i+1)})
	}
	if err := full.Check(Change{Kind: Put, Server: 1000, Address: "z:1"}); !errors.Is(err, logcore.ErrTooLarge) || len(full.Servers) != ServersMax {
		t.Errorf("too many: %v", err)
	}
}

// cluster drives Plan as the log service does: what is joined is ready a while later.
type cluster struct {
	t       *testing.T
	m       Map
	reports map[uint64]Report
}

func (c *cluster) change(ch Change) {
	c.t.Helper()
	before := c.m.Owned()
	m, err := c.m.Apply(ch)
	if err != nil {
		c.t.Fatalf("%v of %d: %v", ch.Kind, ch.Server, err)
	}
	if bare := before.Without(m.Owned()); !bare.Empty() {
		c.t.Fatalf("%v of %d: stripes %v have no owner any more", ch.Kind, ch.Server, bare.Stripes())
	}
	if err := m.Validate(); err != nil {
		c.t.Fatal(err)
	}
	c.m = m
}

func (c *cluster) plan() int {
	changes := Plan(c.m, c.reports)
	for _, ch := range changes {
		c.change(ch)
	}
	return len(changes)
}

// ready lets every live server catch up with what it holds.
func (c *cluster) ready() {
	for _, s := range c.m.Servers {
		if r := c.reports[s.ID]; r.Alive {
			r.Ready = r.Ready.Or(s.Holds())
			c.reports[s.ID] = r
		}
	}
}

// settle plans and catches up until nothing changes.
func (c *cluster) settle() {
	c.t.Helper()
	for range 20 {
		n := c.plan()
		c.ready()
		if n == 0 && c.plan() == 0 {
			return
		}
	}
	c.t.Fatalf("it does not settle: %+v", c.m)
}

// checkSettled: every stripe has as many healthy owners as there can be, and the load is even.
func (c *cluster) checkSettled() {
	c.t.Helper()
	healthy := 0
	least, most := Count+1, -1
	for _, s := range c.m.Servers {
		if !s.Joins.Empty() {
			c.t.Fatalf("server %d still joins %d", s.ID, s.Joins.Len())
		}
		if !c.reports[s.ID].Alive || s.Draining {
			continue
		}
		healthy++
		least, most = min(least, s.Owns.Len()), max(most, s.Owns.Len())
	}
	if healthy == 0 {
		return
	}
	want := min(c.m.OwnersWanted(), healthy)
	for stripe := range Count {
		n := 0
		for _, s := range c.m.OwnersOf(stripe) {
			if !c.reports[s.ID].Alive || s.Draining {
				c.t.Fatalf("stripe %d is still server %d's", stripe, s.ID)
			}
			n++
		}
		if n != want {
			c.t.Fatalf("stripe %d has %d owners, want %d", stripe, n, want)
		}
	}
	if most-least > 1 {
		c.t.Fatalf("one has %d stripes, another %d", most, least)
	}
}

// TestPlanConverges: servers come, die, come back and are drained at random moments, in
// the middle of moves; no change ever leaves a stripe bare, and once it is quiet
// everything is held, evenly.
func TestPlanConverges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		c := &cluster{t: t, reports: map[uint64]Report{}}
		if rng.IntN(2) == 0 {
			c.change(Change{Kind: Owners, Count: 1 + rng.IntN(3)})
		}
		next := uint64(1)
		for range 40 {
			switch rng.IntN(7) {
			case 0, 1:
				if len(c.m.Servers) < 9 {
					c.change(Change{Kind: Put, Server: next, Address: fmt.Sprintf("h%d:1", next)})
					c.reports[next] = Report{Alive: true}
					next++
				}
			case 2:
				if len(c.m.Servers) > 0 {
					s := c.m.Servers[rng.IntN(len(c.m.Servers))]
					r := c.reports[s.ID]
					r.Alive = !r.Alive
					if r.Alive && rng.IntN(2) == 0 {
						r.Ready = Set{} // it came back without its disk
					}
					c.reports[s.ID] = r
				}
			case 3:
				if len(c.m.Servers) > 0 {
					s := c.m.Servers[rng.IntN(len(c.m.Servers))]
					c.change(Change{Kind: Put, Server: s.ID, Address: s.Address, Draining: !s.Draining})
				}
			case 4:
				c.ready()
			default:
				c.plan()
			}
		}
		c.settle()
		c.checkSettled()
	}
}

// TestNewServerTakesItsShare: it is one that holds a quarter that a fourth takes, in one
// step, and nobody else's stripes move.
func TestNewServerTakesItsShare(t *testing.T) {
	c := &cluster{t: t, reports: map[uint64]Report{}}
	for id := range uint64(4) {
		before := c.m
		c.change(Change{Kind: Put, Server: id + 1, Address: fmt.Sprintf("h%d:1", id)})
		c.reports[id+1] = Report{Alive: true}
		c.plan()
		if s, _ := c.m.Server(id + 1); s.Joins.Len() != Count/int(id+1) {
			t.Fatalf("server %d joins %d stripes", id+1, s.Joins.Len())
		}
		for _, s := range before.Servers {
			if now, _ := c.m.Server(s.ID); now.Owns != s.Owns {
				t.Fatalf("server %d lost stripes before the new one serves", s.ID)
			}
		}
		c.settle()
		c.checkSettled()
		for _, s := range before.Servers {
			if now, _ := c.m.Server(s.ID); !now.Owns.Without(s.Owns).Empty() {
				t.Fatalf("server %d got stripes though only the new one was to", s.ID)
			}
		}
	}
}

// TestTheSoleOwnerStays: who is lost or to go stays the owner while nobody else has caught up.
func TestTheSoleOwnerStays(t *testing.T) {
	c := &cluster{t: t, reports: map[uint64]Report{1: {Alive: true}, 2: {Alive: true}}}
	c.change(Change{Kind: Put, Server: 1, Address: "a:1"})
	c.settle()
	c.change(Change{Kind: Put, Server: 1, Address: "a:1", Draining: true})
	c.settle()
	if s, _ := c.m.Server(1); s.Owns != All {
		t.Fatalf("nobody else there, yet %d stripes are left", s.Owns.Len())
	}
	c.change(Change{Kind: Put, Server: 2, Address: "b:1"})
	c.plan()
	c.plan()
	if s, _ := c.m.Server(1); s.Owns != All {
		t.Fatal("the other is not ready")
	}
	c.settle()
	if s, _ := c.m.Server(1); !s.Holds().Empty() {
		t.Fatal("drained, it still holds stripes")
	}
	c.change(Change{Kind: Remove, Server: 1})
}
