package tiering

import (
	"slices"
	"sync/atomic"
	"time"
)

// usage counts what is asked of a target since the process started: what providers bill.
type usage struct {
	puts, gets, bytesRead atomic.Int64
}

// TargetCost is what a target costs in a day, by its prices, if things go on as they went
// since the archiver started.
type TargetCost struct {
	Target   string
	Storage  float64 // of the fragments that the manifest places there
	Requests float64 // puts, lists, gets and heads
	Egress   float64 // of what is read back
	Priced   bool    // its URL says any price; otherwise the zeros mean nothing
}

// Total is the sum.
func (c TargetCost) Total() float64 { return c.Storage + c.Requests + c.Egress }

const (
	gigabyte     = 1e9 // as providers count
	daysOfMonth  = 30.0
	costAfterMin = time.Minute // requests of a shorter time say nothing of a day
)

// Costs estimates what each target costs in a day.
func (a *Archiver) Costs() []TargetCost {
	s := a.state.Load()
	bytes := map[string]int64{}
	if s != nil {
		for _, o := range s.live {
			for _, f := range o.fragments {
				bytes[f.target] += o.FragmentBytes()
			}
		}
	}
	days := max(time.Since(a.started), costAfterMin).Hours() / 24
	var out []TargetCost
	for _, r := range a.all() {
		if s != nil && !s.inUse(r.Name) {
			continue
		}
		p := r.Prices
		out = append(out, TargetCost{Target: r.Name, Priced: p != Prices{},
			Storage:  float64(bytes[r.Name]) / gigabyte * p.Storage / daysOfMonth,
			Requests: (float64(r.usage.puts.Load())/1000*p.Puts + float64(r.usage.gets.Load())/1000*p.Gets) / days,
			Egress:   float64(r.usage.bytesRead.Load()) / gigabyte * p.Egress / days})
	}
	slices.SortFunc(out, func(x, y TargetCost) int {
		if x.Target < y.Target {
			return -1
		}
		return 1
	})
	return out
}

// Recoding returns how many objects are of another code than the archive's.
func (a *Archiver) Recoding() (n int) {
	k, m := a.code()
	if s := a.state.Load(); s != nil {
		for _, o := range s.live {
			if o.K != k || o.M != m {
				n++
			}
		}
	}
	return n
}

// Tombstones returns what was erased from the archive, oldest first.
func (a *Archiver) Tombstones() []Tombstone { return a.Reader().Tombstones() }

// ScrubNext returns where the next scrub goes on.
func (a *Archiver) ScrubNext() uint64 {
	if s := a.state.Load(); s != nil {
		return uint64(parseScrub(s.settings[settingScrub]).next)
	}
	return 0
}

// Lock returns for how long sealed fragments are locked; 0 = they are not.
func (a *Archiver) Lock() time.Duration {
	if s := a.state.Load(); s != nil {
		return parseSeconds(s.settings[settingLock])
	}
	return 0
}

// PublicKey returns the key that the newest record was signed with, for auditors; false
// before there is one.
func (a *Archiver) PublicKey() (PublicKey, bool) {
	s := a.state.Load()
	if s == nil || len(s.signers) == 0 {
		return PublicKey{}, false
	}
	return s.signers[len(s.signers)-1].public, true
}
