package sim

import (
	"time"

	"github.com/logcore/logcore/replication"
)

// store keeps a member's term, vote and members: durable when Save returns. The member
// may crash in the middle of a save, which leaves the old state or the new one.
type store struct {
	w      *world
	member uint64
	flaws  flaws
	state  replication.MemberState // what a restart finds
	unsafe *replication.MemberState
	crash  bool // in the next save
	// crashAfter the next save, once what it allows has been sent.
	crashAfter bool
}

var _ replication.StateStore = (*store)(nil)

// Save implements replication.StateStore.
func (s *store) Save(next replication.MemberState) error {
	if s.crash {
		s.crash = false
		if s.w.s.chance(0.5) {
			s.state = next
		}
		panic(crash{s.member})
	}
	if s.crashAfter {
		s.crashAfter = false
		n := s.w.nodes[s.member-1]
		life := n.life
		s.w.s.after(s.w.s.between(0, 5*time.Millisecond), func() {
			if n.life == life {
				s.w.crashOne(n)
			}
		})
	}
	if s.flaws.voteEarly { // planted: it returns before the state is durable
		s.unsafe = &next
		s.w.s.after(s.w.s.between(s.w.plan.diskMin, 20*s.w.plan.diskMax), func() {
			if s.unsafe == &next {
				s.state, s.unsafe = next, nil
			}
		})
		return nil
	}
	s.state = next
	s.w.count.Saves++
	return nil
}

func (s *store) powerOff() { s.unsafe, s.crash, s.crashAfter = nil, false, false }
