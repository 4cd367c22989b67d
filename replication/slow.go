package replication

import "github.com/logcore/logcore"

// slowTicks is for how long a leader's own disk may lack what the others have made durable: the requests wait
// for it, because a leader applies only what it holds itself.
const slowTicks = 8

// slow watches for a leader's disk that is slower than those of a quorum, or full, while
// theirs are not.
type slow struct {
	target logcore.LSN // committed by others when it was first missing here; 0: nothing is missing
	ticks  int         // since then
}

// watchDisk hands leadership to the member that has most, when this one's disk holds everybody up: also when it was
// elected just now and does not even hold the first entry of its term.
func (m *Member) watchDisk(commit logcore.LSN) {
	s := &m.slow
	if durable := m.opts.Disk.Durable(); s.target == 0 || durable >= s.target {
		*s = slow{}
		if commit > durable {
			s.target = commit
		}
		return
	}
	if s.ticks++; s.ticks < slowTicks || m.transfer != 0 {
		return
	}
	to, best := uint64(0), logcore.LSN(0)
	progress := m.progress()
	for _, id := range m.Members().Voters {
		if p := progress[id]; p.Active && p.Match >= s.target && p.Match > best {
			to, best = id, p.Match
		}
	}
	*s = slow{}
	if to == 0 {
		return
	}
	m.log.Warn("replication: this member's disk lags behind those of the others; another one is asked to lead", "to", to, "durable", m.opts.Disk.Durable(), "committed", commit)
	m.transfer = to
	m.rn.TransferLeader(to)
}
