package sim

import (
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/replication"
)

// A disk that is older than it was, a copy put back or a snapshot restored, has forgotten what
// its member acknowledged. On its own a member can't know; a leader who has its acknowledgement
// can. So nothing else is wrong while it comes back: a leader that all follow is there. It must then either
// be found out, and never take part again, or have caught up.

const (
	olderSettles = 1200 * time.Millisecond // until everybody follows a leader
	olderWithin  = 4 * time.Second
)

// olderDisk copies a member's disk, and puts the copy back some time later.
func (w *world) olderDisk() {
	n := w.any()
	if n.member == nil || !w.mayLose(n) {
		return
	}
	segs, state := n.disk.copied(), n.store.state
	w.until(w.s.between(100*time.Millisecond, 1500*time.Millisecond), func() {
		if w.hold || n.gone || n.dead {
			return
		}
		w.hold = true
		w.easeOff()
		w.s.after(olderSettles, func() {
			if !w.calm && w.mayLose(n) && w.followed(n) {
				w.putBack(n, segs, state)
			} else {
				w.hold = false
			}
		})
	})
}

// followed reports whether another member leads, and every one that runs follows it.
func (w *world) followed(n *node) bool {
	leader := w.leader()
	if leader == nil || leader == n || n.member == nil {
		return false
	}
	following := 0
	for _, id := range w.voters() {
		other := w.nodes[id-1]
		if other.member == nil {
			continue
		}
		if other.member.Leader() != leader.id || other.member.Term() != leader.member.Term() {
			return false
		}
		if other != n {
			following++
		}
	}
	return following > len(w.voters())/2
}

func (w *world) putBack(n *node, segs []*seg, state replication.MemberState) {
	known := w.oracle.last()
	w.count.OlderDisks++
	n.crash()
	n.disk.putBack(segs)
	if w.s.chance(0.7) { // else only the log's disk is older, and the state's is not
		n.store.state = state
	}
	n.older = true
	w.trace.note("member %d: its disk is an older one now, up to LSN %d", n.id, uint64(n.disk.last))
	n.restartIn(w.s.between(time.Millisecond, 100*time.Millisecond))
	w.watchOlder(n, known, w.s.now+olderWithin)
}

// watchOlder waits until the member was found out or holds what was known then.
func (w *world) watchOlder(n *node, known logcore.LSN, deadline time.Duration) {
	w.s.after(20*time.Millisecond, func() {
		switch {
		case n.dead:
			w.hold = false
		case n.member != nil && n.member.Committed() >= known && n.disk.stored >= known:
			w.trace.note("member %d caught up", n.id)
			n.older, w.hold = false, false
		case w.s.now > deadline:
			w.failf("member %d came back with an older disk, and was neither found out nor caught up within %v", n.id, olderWithin)
		default:
			w.watchOlder(n, known, deadline)
		}
	})
}
