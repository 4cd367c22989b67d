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
	of    map[logcore.LogID]*lease
}

// lease is one writer's. It is the same as long as the leadership lasts and the writer does not close it.
type lease struct{ until time.Time }

// heldLease is where a channel finds its writer's lease, without looking for it with each append.
type heldLease struct {
	lease *lease
	term  uint64 // of the leadership that it belongs to
}

// enter begins afresh when this is another leadership, which began at a time: nobody
// knows then when the writers were last alive, so each gets one lease from there.
func (l *leases) enter(term uint64, since time.Time) {
	if l.of == nil || l.term != term {
		l.term, l.of = term, map[logcore.LogID]*lease{}
	}
	l.since = since
}

func (l *leases) renew(id logcore.LogID) { l.find(id).until = l.now().Add(l.duration) }

// renewHeld is renew for a channel, at a time that now gave.
func (l *leases) renewHeld(h *heldLease, id logcore.LogID, now time.Time) {
	if h.lease == nil || h.term != l.term {
		h.lease, h.term = l.find(id), l.term
	}
	h.lease.until = now.Add(l.duration)
}

func (l *leases) find(id logcore.LogID) *lease {
	of := l.of[id]
	if of == nil {
		of = &lease{}
		l.of[id] = of
	}
	return of
}

// release ends a lease. A channel that still holds it is fenced.
func (l *leases) release(id logcore.LogID) { delete(l.of, id) }

// left returns how long the log's open writer still counts as alive, 0 when it doesn't.
func (l *leases) left(id logcore.LogID) time.Duration {
	until := l.since.Add(l.duration)
	if of := l.of[id]; of != nil {
		until = of.until
	}
	return max(until.Sub(l.now()), 0)
}
