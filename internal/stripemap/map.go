package stripemap

import (
	"fmt"
	"net"
	"slices"

	"github.com/logcore/logcore"
)

const (
	// ServersMax is the most page servers there can be.
	ServersMax = 64
	// OwnersMax is the most page servers that may be asked to hold each stripe.
	OwnersMax = 4
	// AddressMax is the longest address of a page server, in bytes.
	AddressMax = 128
)

// Server is a page server.
type Server struct {
	ID      uint64 // its own random number, never 0
	Address string // where clients reach it, HOST:PORT
	// Draining: it is to hold nothing, once others hold what it has.
	Draining bool
	Owns     Set // what it serves
	Joins    Set // what it is taking over and does not serve yet
}

// Holds is what it serves or is about to.
func (s Server) Holds() Set { return s.Owns.Or(s.Joins) }

// Map says who holds which stripe. The zero value has no servers.
//
// Invariants: a stripe that ever had an owner has one; no server both owns and joins
// a stripe; ids ascend; addresses differ.
type Map struct {
	// Generation is the LSN of the change that made this map; it rises within an
	// incarnation of the log service.
	Generation  uint64
	Incarnation uint64
	// Owners is how many page servers shall hold each stripe; 0 means 1.
	Owners  int
	Servers []Server
}

// Newer reports whether m is to replace o: it is of another incarnation, or later.
func (m Map) Newer(o Map) bool {
	return m.Incarnation != o.Incarnation || m.Generation > o.Generation
}

// Clone returns a copy that shares nothing.
func (m Map) Clone() Map {
	m.Servers = slices.Clone(m.Servers)
	return m
}

// OwnersWanted is how many page servers shall hold each stripe.
func (m Map) OwnersWanted() int { return max(m.Owners, 1) }

// Server returns a server.
func (m Map) Server(id uint64) (Server, bool) {
	if i, ok := m.index(id); ok {
		return m.Servers[i], true
	}
	return Server{}, false
}

func (m Map) index(id uint64) (int, bool) {
	return slices.BinarySearchFunc(m.Servers, id, func(s Server, id uint64) int {
		switch {
		case s.ID < id:
			return -1
		case s.ID > id:
			return 1
		}
		return 0
	})
}

// OwnersOf returns who serves a stripe.
func (m Map) OwnersOf(stripe int) []Server {
	var out []Server
	for _, s := range m.Servers {
		if s.Owns.Has(stripe) {
			out = append(out, s)
		}
	}
	return out
}

// Owned is every stripe that somebody serves.
func (m Map) Owned() Set {
	var all Set
	for _, s := range m.Servers {
		all = all.Or(s.Owns)
	}
	return all
}

// Kind says what a Change does. The numbers are durable.
type Kind uint8

// The kinds of a Change.
const (
	Put    Kind = 1 // Server is at Address, and Draining or not
	Remove Kind = 2 // Server, which holds nothing, goes
	Join   Kind = 3 // Server begins to take Stripes over
	Own    Kind = 4 // Server, which joined Stripes, serves them
	Leave  Kind = 5 // Server gives Stripes up
	Owners Kind = 6 // Count page servers shall hold each stripe
)

var kindNames = [...]string{Put: "put", Remove: "remove", Join: "join", Own: "own", Leave: "leave", Owners: "owners"}

// String returns the kind's name, or its number when it has none.
func (k Kind) String() string {
	if k >= Put && k <= Owners {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Change is one step of the map. Fields that its Kind does not name are zero.
type Change struct {
	Kind     Kind
	Server   uint64
	Address  string
	Draining bool
	Stripes  Set
	Count    int
}

// Check says whether a change may be made. The errors wrap logcore.ErrInvalid or
// logcore.ErrTooLarge.
func (m Map) Check(c Change) error {
	_, err := m.with(c)
	return err
}

// Apply returns the map after a change; m stays as it is. The generation is the
// caller's to set. Errors are those of Check.
func (m Map) Apply(c Change) (Map, error) { return m.with(c) }

func (m Map) with(c Change) (Map, error) {
	if c.Kind == Owners {
		if c.Count < 1 || c.Count > OwnersMax {
			return m, invalid("%d owners for each stripe: want 1 to %d", c.Count, OwnersMax)
		}
		m.Owners = c.Count
		return m, nil
	}
	if c.Server == 0 {
		return m, invalid("page server 0")
	}
	i, known := m.index(c.Server)
	if c.Kind == Put {
		return m.put(i, known, c)
	}
	if !known {
		return m, invalid("page server %016x is not known", c.Server)
	}
	m = m.Clone()
	s := &m.Servers[i]
	switch c.Kind {
	case Remove:
		if !s.Holds().Empty() {
			return m, invalid("page server %016x holds %d stripes: drain it first", s.ID, s.Holds().Len())
		}
		m.Servers = slices.Delete(m.Servers, i, i+1)
		return m, nil
	case Join, Own, Leave:
		if c.Stripes.Empty() {
			return m, invalid("%v of no stripe", c.Kind)
		}
	}
	switch c.Kind {
	case Join:
		if both := s.Holds().And(c.Stripes); !both.Empty() {
			return m, invalid("page server %016x holds %d of the stripes already", s.ID, both.Len())
		}
		s.Joins = s.Joins.Or(c.Stripes)
	case Own:
		if missing := c.Stripes.Without(s.Joins); !missing.Empty() {
			return m, invalid("page server %016x has not joined %d of the stripes", s.ID, missing.Len())
		}
		s.Joins, s.Owns = s.Joins.Without(c.Stripes), s.Owns.Or(c.Stripes)
	case Leave:
		if missing := c.Stripes.Without(s.Holds()); !missing.Empty() {
			return m, invalid("page server %016x does not hold %d of the stripes", s.ID, missing.Len())
		}
		left := s.Owns.And(c.Stripes)
		s.Owns, s.Joins = s.Owns.Without(c.Stripes), s.Joins.Without(c.Stripes)
		if bare := left.Without(m.Owned()); !bare.Empty() {
			return m, invalid("%d of the stripes that page server %016x would leave have no other owner", bare.Len(), s.ID)
		}
	default:
		return m, fmt.Errorf("%w: change of the stripe map %v: use a newer build", logcore.ErrUnsupportedVersion, c.Kind)
	}
	return m, nil
}

func (m Map) put(i int, known bool, c Change) (Map, error) {
	if _, _, err := net.SplitHostPort(c.Address); err != nil || len(c.Address) > AddressMax {
		return m, invalid("page server %016x: address %q: want HOST:PORT, at most %d bytes", c.Server, c.Address, AddressMax)
	}
	for _, s := range m.Servers {
		if s.ID != c.Server && s.Address == c.Address {
			return m, invalid("%s is the address of page server %016x already: drain and remove that one", c.Address, s.ID)
		}
	}
	m = m.Clone()
	if known {
		m.Servers[i].Address, m.Servers[i].Draining = c.Address, c.Draining
		return m, nil
	}
	if len(m.Servers) >= ServersMax {
		return m, fmt.Errorf("%w: there are %d page servers, the most there can be", logcore.ErrTooLarge, ServersMax)
	}
	m.Servers = slices.Insert(m.Servers, i, Server{ID: c.Server, Address: c.Address, Draining: c.Draining})
	return m, nil
}

// Validate checks the invariants of a map that was decoded. The error wraps
// logcore.ErrInvalid.
func (m Map) Validate() error {
	if m.Owners < 0 || m.Owners > OwnersMax || len(m.Servers) > ServersMax {
		return invalid("%d owners, %d servers", m.Owners, len(m.Servers))
	}
	last, addresses := uint64(0), map[string]bool{}
	for _, s := range m.Servers {
		if _, _, err := net.SplitHostPort(s.Address); err != nil || len(s.Address) > AddressMax || addresses[s.Address] {
			return invalid("page server %016x: address %q", s.ID, s.Address)
		}
		if s.ID <= last || !s.Owns.And(s.Joins).Empty() {
			return invalid("page server %016x after %016x: out of order, or it both owns and joins a stripe", s.ID, last)
		}
		last, addresses[s.Address] = s.ID, true
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: stripe map: %s", logcore.ErrInvalid, fmt.Sprintf(format, args...))
}
