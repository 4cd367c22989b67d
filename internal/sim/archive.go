package sim

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// archive is what the buckets hold of the shard's log: entries that were committed, a
// while behind, unreachable now and then. What it covers may be trimmed from the hot
// logs, and a member that lacks what the leader has trimmed is fed from it.
//
// The production archiver has goroutines of its own; this is a stand-in for what it
// promises. It shows what trimming and feeding do to the members, not that tiering keeps its promises.
type archive struct {
	w       *world
	entries []logcore.Entry // from LSN 1 on
	down    bool
}

const (
	archiveEvery = 300 * time.Millisecond
	feedEvery    = 3 * time.Millisecond
	feedEntries  = 40
	keepSegments = 2 // of sealed ones, in a hot log that is trimmed
)

func (a *archive) covered() logcore.LSN { return logcore.LSN(len(a.entries)) }

// work archives what the leader has committed, and trims every hot log.
func (a *archive) work() {
	a.w.s.after(a.w.s.between(archiveEvery/2, archiveEvery), func() {
		if n := a.w.leader(); n != nil && !a.down && !n.paused {
			a.take(n)
		}
		for _, n := range a.w.nodes {
			a.trim(n)
		}
		a.work()
	})
}

func (a *archive) take(n *node) {
	for lsn := a.covered() + 1; lsn <= n.member.Committed(); lsn++ {
		if lsn < n.disk.first {
			a.w.failf("trimmed before it was archived: member %d begins at LSN %d, the archive ends at %d", n.id, n.disk.first, a.covered())
			return
		}
		e, _, err := n.disk.entry(lsn)
		if err != nil {
			return // it has rotted there; another leader will do
		}
		a.entries = append(a.entries, e)
	}
	a.w.count.Archived = max(a.w.count.Archived, uint64(a.covered()))
}

// trim drops a member's oldest segments: those that are archived, and that no restart
// needs the checkpoint of.
func (a *archive) trim(n *node) {
	if n.member == nil || n.paused || !a.w.plan.trims {
		return
	}
	if n.member.Checkpoint() == 0 {
		return
	}
	upTo := min(n.member.Committed(), n.member.Checkpoint()-1)
	if !a.w.flaws.trimEarly {
		upTo = min(upTo, a.covered())
	}
	sealed := 0
	for _, s := range n.disk.segs {
		if s.sealed && s.last() <= upTo {
			sealed++
		}
	}
	for ; sealed > keepSegments; sealed-- {
		n.disk.trimOldest()
		a.w.count.Trims++
	}
}

func (d *disk) trimOldest() {
	d.segs = d.segs[1:]
	d.first = d.segs[0].first()
}

// snapshot is what a member hears when its leader no longer has what it lacks.
func (n *node) snapshot(m *raftpb.Message) {
	if n.feeding {
		return
	}
	n.feeding = true
	life := n.life
	n.w.s.after(n.w.s.between(0, 20*time.Millisecond), func() { n.feedFrom(life, m) })
}

func (n *node) feedFrom(life int, m *raftpb.Message) {
	if n.life != life {
		return
	}
	n.do(func() {
		next, err := n.member.StartFeed(m)
		if err != nil {
			n.w.trace.line("member %d: not fed: %v", n.id, err)
			n.feeding = false
			return
		}
		n.w.trace.note("member %d is fed from LSN %d on", n.id, uint64(next))
		n.w.count.Feeds++
		n.feedOn(life, next)
	})
	if n.paused { // asked again later, by the leader's next message
		n.feeding = false
	}
}

// feedOn gives the member the next entries, until it has enough.
func (n *node) feedOn(life int, next logcore.LSN) {
	n.w.s.after(n.w.s.between(feedEvery/2, feedEvery*2), func() {
		if n.life != life {
			return
		}
		if n.paused {
			n.feedOn(life, next)
			return
		}
		n.do(func() { n.feedStep(life, next) })
	})
}

func (n *node) feedStep(life int, next logcore.LSN) {
	a := n.w.archive
	done, err := n.member.FinishFeed()
	switch {
	case done || err != nil:
		n.feeding = false
		if done {
			n.w.trace.note("member %d is fed up to LSN %d", n.id, uint64(next)-1)
			n.w.count.Fed++
		}
		return
	case n.w.s.chance(0.02): // whoever feeds gives up
		n.member.StopFeed()
		n.feeding = false
		return
	}
	if list := a.offer(n, next); len(list) > 0 {
		if err := n.member.Feed(list, func() {}); err != nil {
			n.w.trace.line("member %d: feeding: %v", n.id, err)
			n.feeding = false
			return
		}
		next += logcore.LSN(len(list))
	}
	n.feedOn(life, next)
}

// offer returns committed entries from next on: from the archive, or from another
// member's hot log.
func (a *archive) offer(n *node, next logcore.LSN) []logcore.Entry {
	if !a.down && next <= a.covered() && a.w.s.chance(0.7) {
		end := min(next+feedEntries, a.covered()+1)
		return append([]logcore.Entry(nil), a.entries[next-1:end-1]...)
	}
	peer := a.w.any()
	if peer == n || peer.member == nil || peer.paused || a.w.net.cut[peer.id-1][n.id-1] || a.w.net.cut[n.id-1][peer.id-1] ||
		next < peer.disk.first || next > peer.member.Committed() {
		return nil
	}
	list, err := peer.disk.Entries(next, min(next+feedEntries, peer.member.Committed()+1), 1<<20)
	if err != nil {
		return nil // rotten there
	}
	return list
}
