package sim

import "time"

// plan is what a seed makes of a run before it begins: its size, its speeds, and which
// faults it has at all. Few kinds of fault at a time find what all of them at once would hide.
type plan struct {
	members, logs  int
	writers        int // of each log
	depth          int // appends under way, at most, of each writer
	think          time.Duration
	netMin, netMax time.Duration
	diskMin        time.Duration
	diskMax        time.Duration
	faultsFor      time.Duration // the first phase
	faultEvery     time.Duration
	faults         []fault // that this run may have
	trims          bool    // hot logs are trimmed to what the archive lacks
	encodes        bool    // messages between members are encoded and decoded
	quiet          bool    // clients stop
}

func makePlan(s *scheduler, o Options) plan {
	p := plan{members: 3, logs: 1 + s.intn(2), writers: 2, depth: 1 + s.intn(4), think: s.between(10*time.Millisecond, 60*time.Millisecond),
		netMin: 100 * time.Microsecond, netMax: s.between(200*time.Microsecond, 3*time.Millisecond),
		diskMin: 100 * time.Microsecond, diskMax: s.between(200*time.Microsecond, 5*time.Millisecond),
		faultsFor: o.FaultsFor, faultEvery: s.between(100*time.Millisecond, 700*time.Millisecond)}
	switch s.intn(10) {
	case 0:
		p.members = 1
	case 1, 2:
		p.members = 5
	}
	p.trims, p.encodes = s.chance(0.5), s.chance(0.1)
	many := []float64{0.15, 0.4, 0.8}[s.intn(3)]
	for len(p.faults) == 0 {
		for _, f := range allFaults {
			if s.chance(many) {
				p.faults = append(p.faults, f)
			}
		}
	}
	return p
}
