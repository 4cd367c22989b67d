package stripemap

// Report is what is known of a page server besides the map: the log service's memory
// of what it said last.
type Report struct {
	Alive bool // its lease runs
	Ready Set  // what it has in full, and could serve now
}

// Plan returns the changes that bring a map nearer to what it should be: each stripe
// held by as many healthy page servers as wanted, none with more than its share.
// Applied in order they are all valid. It returns none when there is nothing to do but
// wait for a page server that is taking stripes over.
//
// A page server that is gone stays the owner in the map until somebody else is: the
// map never says that nobody has a stripe, and should the lost one come back first, it
// serves on.
func Plan(m Map, reports map[uint64]Report) []Change {
	p := planner{m: m.Clone(), reports: reports}
	p.finishJoins()
	p.cancelJoins()
	p.retire()
	p.fill()
	if len(p.changes) == 0 && !p.joining() {
		p.balance()
	}
	return p.changes
}

type planner struct {
	m       Map
	reports map[uint64]Report
	changes []Change
}

func (p *planner) do(c Change) {
	if c.Stripes.Empty() {
		return
	}
	m, err := p.m.Apply(c)
	if err != nil {
		panic("stripemap: planned an impossible change: " + err.Error())
	}
	p.m, p.changes = m, append(p.changes, c)
}

// healthy: it is there and is to stay.
func (p *planner) healthy(s Server) bool { return p.reports[s.ID].Alive && !s.Draining }

// finishJoins makes owners of those who have caught up.
func (p *planner) finishJoins() {
	for _, s := range p.m.Clone().Servers {
		if r := p.reports[s.ID]; r.Alive {
			p.do(Change{Kind: Own, Server: s.ID, Stripes: s.Joins.And(r.Ready)})
		}
	}
}

// cancelJoins ends what those who are gone or are to go were taking over.
func (p *planner) cancelJoins() {
	for _, s := range p.m.Clone().Servers {
		if !p.healthy(s) {
			p.do(Change{Kind: Leave, Server: s.ID, Stripes: s.Joins})
		}
	}
}

// retire takes stripes from owners that are not needed any more: first from those
// that are gone or to go, then from those that have most.
func (p *planner) retire() {
	want := p.m.OwnersWanted()
	leaves := make([]Set, len(p.m.Servers))
	load := make([]int, len(p.m.Servers))
	for i, s := range p.m.Servers {
		load[i] = s.Owns.Len()
	}
	for stripe := range Count {
		healthy, others := 0, []int(nil)
		for i, s := range p.m.Servers {
			switch {
			case !s.Owns.Has(stripe):
			case p.healthy(s):
				healthy++
			default:
				others = append(others, i)
			}
		}
		if healthy < min(want, p.healthyServers()) || healthy == 0 {
			continue
		}
		for _, i := range others {
			leaves[i] = leaves[i].With(stripe)
		}
		for ; healthy > want; healthy-- {
			most := -1
			for i, s := range p.m.Servers {
				if s.Owns.Has(stripe) && p.healthy(s) && !leaves[i].Has(stripe) && (most < 0 || load[i] > load[most]) {
					most = i
				}
			}
			leaves[most], load[most] = leaves[most].With(stripe), load[most]-1
		}
	}
	for i, s := range p.m.Clone().Servers {
		p.do(Change{Kind: Leave, Server: s.ID, Stripes: leaves[i]})
	}
}

func (p *planner) healthyServers() int {
	n := 0
	for _, s := range p.m.Servers {
		if p.healthy(s) {
			n++
		}
	}
	return n
}

func (p *planner) joining() bool {
	for _, s := range p.m.Servers {
		if !s.Joins.Empty() {
			return true
		}
	}
	return false
}

// fill gives every stripe that too few hold to those that have least, at best to one
// that has its pages already.
func (p *planner) fill() {
	want := min(p.m.OwnersWanted(), p.healthyServers())
	joins := make([]Set, len(p.m.Servers))
	load := p.loads()
	for stripe := range Count {
		holders := 0
		for _, s := range p.m.Servers {
			if p.healthy(s) && s.Holds().Has(stripe) {
				holders++
			}
		}
		for ; holders < want; holders++ {
			best := -1
			for i, s := range p.m.Servers {
				if !p.healthy(s) || s.Holds().Has(stripe) || joins[i].Has(stripe) {
					continue
				}
				if best < 0 || p.betterFor(stripe, i, best, load) {
					best = i
				}
			}
			joins[best], load[best] = joins[best].With(stripe), load[best]+1
		}
	}
	for i, s := range p.m.Clone().Servers {
		p.do(Change{Kind: Join, Server: s.ID, Stripes: joins[i]})
	}
}

func (p *planner) betterFor(stripe, a, b int, load []int) bool {
	hasA := p.reports[p.m.Servers[a].ID].Ready.Has(stripe)
	hasB := p.reports[p.m.Servers[b].ID].Ready.Has(stripe)
	if hasA != hasB {
		return hasA
	}
	return load[a] < load[b]
}

func (p *planner) loads() []int {
	load := make([]int, len(p.m.Servers))
	for i, s := range p.m.Servers {
		load[i] = s.Holds().Len()
	}
	return load
}

// balance lets those who have least join stripes of those who have most, until none
// has two more than another; retire takes them from there once they are served.
func (p *planner) balance() {
	load, joins := p.loads(), make([]Set, len(p.m.Servers))
	moved := Set{}
	for {
		most, least := -1, -1
		for i, s := range p.m.Servers {
			if !p.healthy(s) {
				continue
			}
			if most < 0 || load[i] > load[most] {
				most = i
			}
			if least < 0 || load[i] < load[least] {
				least = i
			}
		}
		if most < 0 || load[most]-load[least] < 2 {
			break
		}
		from := p.m.Servers[most].Owns.Without(p.m.Servers[least].Holds()).Without(joins[least]).Without(moved)
		if from.Empty() {
			break
		}
		stripe := from.Stripes()[0]
		moved = moved.With(stripe)
		joins[least] = joins[least].With(stripe)
		load[most]--
		load[least]++
	}
	for i, s := range p.m.Clone().Servers {
		p.do(Change{Kind: Join, Server: s.ID, Stripes: joins[i]})
	}
}
