package logsvc

import (
	"time"

	"github.com/logcore/logcore"
)

// leases says which writers are alive: they appended or renewed within the lease. It
// lives in the leader's memory, because fencing never rests on it: the epoch does that. It
// only keeps a second writer from taking a log away from a living one by mistake.
type leases struct {
	duration time.Duration
	now      func() time.Time

	term  uint64    // of the leadership that the rest belongs to
	since time.Time // a writer nobody has heard of since then may still be alive
	until map[logcore.LogID]time.Time
}

// enter begins afresh when this is another leadership, which began at a time: nobody
// knows then when the writers were last alive, so each gets one lease from there.
func (l *leases) enter(term uint64, since time.Time) {
	if l.until == nil || l.term != term {
		l.term, l.until = term, map[logcore.LogID]time.Time{}
	}
	l.since = since
}

func (l *leases) renew(id logcore.LogID) { l.until[id] = l.now().Add(l.duration) }

func (l *leases) release(id logcore.LogID) { delete(l.until, id) }

// left returns how long the log's open writer still counts as alive, 0 when it doesn't.
func (l *leases) left(id logcore.LogID) time.Duration {
	until, ok := l.until[id]
	if !ok {
		until = l.since.Add(l.duration)
	}
	return max(until.Sub(l.now()), 0)
}
