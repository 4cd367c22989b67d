package tiering

import (
	"slices"
	"time"

	"github.com/logcore/logcore/tiering/erasure"
)

// Settings is what is decided about a shard's archive, as its manifest says. All shards of a service are to have
// the same: a command that was interrupted between two of them leaves a difference.
type Settings struct {
	Record   uint64   // number of the newest manifest record; 0 = none yet, and nothing is decided
	Targets  []string // by name, in order
	Leaving  []string // of Targets: being evacuated
	K, M     int      // of new objects
	Lock     time.Duration
	Policies []LogPolicy // every log first
}

// Settings returns what is decided about the archive; zero when that is not known yet.
func (r *Reader) Settings() Settings {
	s := r.view()
	if s == nil || s.number == 0 {
		return Settings{}
	}
	out := Settings{Record: s.number, Targets: slices.Sorted(slices.Values(s.targets)), Leaving: slices.Sorted(slices.Values(s.leaving)),
		K: erasure.DefaultK, M: erasure.DefaultM, Lock: parseSeconds(s.settings[settingLock]), Policies: s.policies()}
	if k, m, ok := parseCode(s.settings[settingCode]); ok {
		out.K, out.M = k, m
	}
	return out
}

// Removed reports whether a target of that name was one of the archive's and is no more.
func (a *Archiver) Removed(name string) bool {
	s := a.state.Load()
	return s != nil && !s.inUse(name)
}
