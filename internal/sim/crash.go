package sim

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// sectorBytes is what the simulated device writes whole or not at all, when it tears a
// write by sectors.
const sectorBytes = 512

// crash is thrown out of a member's step when it crashes in the middle of it.
type crash struct{ member uint64 }

// powerOff leaves what a crash leaves: everything stored, and of the write under way
// any part.
func (d *disk) powerOff() {
	d.life++
	from := d.stored
	upTo := from
	if n := len(d.flight); n > 0 {
		upTo = d.flight[n-1].last
	}
	d.waiting, d.flight, d.broken = nil, nil, nil
	d.syncFail, d.tearCut, d.tearIn, d.lost = 0, false, 0, false
	d.cutTo(upTo)
	d.stored = from
	if upTo > from {
		d.tear(from)
	}
}

// tear decides which bytes behind the entry at lsn have reached the device.
func (d *disk) tear(lsn logcore.LSN) {
	d.w.count.Torn++
	way := d.w.s.intn(4)
	for _, s := range d.segs {
		from, _ := s.begin(s.count(lsn))
		if s.last() <= lsn {
			continue
		}
		size := len(s.frames) - from
		frames := append([]byte(nil), s.frames...) // readers keep what they have
		switch way {
		case 0: // nothing
			clear(frames[from:])
		case 1: // everything
		case 2: // a prefix
			clear(frames[from+d.w.s.intn(size+1):])
		case 3: // any sectors
			for at := from; at < len(frames); {
				next := min((at/sectorBytes+1)*sectorBytes, len(frames))
				if d.w.s.chance(0.5) {
					clear(frames[at:next])
				}
				at = next
			}
		}
		s.frames = frames
	}
}

// recover reads what a crash left, with the production code: it cuts the torn tail and
// reports corruption.
func (d *disk) recover() error {
	proven := logcore.LSN(0)
	kept := d.segs[:0:0]
	for i, s := range d.segs {
		last := i == len(d.segs)-1
		id := segment.Identity{State: segment.StateOpen, Header: s.header, Mark: segment.Mark{State: segment.StateOpen, ID: s.header.ID,
			LSN: s.mark.lsn, End: int64(s.mark.end) + segment.FramesOffset, Sum: s.mark.sum, Reach: segment.SegmentBytesMax}}
		if proven = 0; !last && d.segs[i+1].mark.lsn >= d.segs[i+1].first() {
			proven = s.last() // the next segment's first entry was proven, so all of this one is
		}
		r, err := segment.Recover(s, int64(len(s.frames))+segment.FramesOffset, id, segment.RecoverOptions{Proven: proven, Scan: true})
		if err != nil {
			return fmt.Errorf("simulated disk of member %d: %w", d.member, err)
		}
		kept = append(kept, s)
		if r.Torn {
			d.w.count.TornFound++
		}
		s.cutAt(r.Last)
		s.sealed = r.Sealed
		if !r.Sealed {
			break // what follows was never acknowledged: its predecessor is torn
		}
	}
	d.segs = kept
	d.last = d.tail().last()
	if d.last < d.stored {
		return fmt.Errorf("simulated disk of member %d: recovery cut LSNs that were stored: it ends at %d, stored was %d", d.member, d.last, d.stored)
	}
	d.durable, d.stored = d.last, d.last // it was written and synced again
	for _, s := range d.segs {
		s.mark = s.point(len(s.ends))
	}
	return nil
}

// rot damages an entry that the marks prove, if there is one, and returns its LSN: a bit
// flips, or a write was lost, or another one went to its place.
func (d *disk) rot() logcore.LSN {
	s := d.segs[d.w.s.intn(len(d.segs))]
	n := s.count(s.mark.lsn)
	if n == 0 {
		return 0
	}
	i := d.w.s.intn(n)
	from, _ := s.begin(i)
	frame := s.frames[from:s.ends[i]]
	switch way := d.w.s.intn(4); {
	case way == 0: // lost: zeros, or what else was there before
		at := d.w.s.intn(len(frame))
		for ; at < len(frame); at++ {
			s.flip(from+at, frame[at])
		}
	case way == 1 && n > 1: // misdirected
		j := (i + 1 + d.w.s.intn(n-1)) % n
		other, _ := s.begin(j)
		for at := 0; at < min(len(frame), s.ends[j]-other); at++ {
			s.flip(from+at, frame[at]^s.frames[other+at])
		}
	}
	if len(s.flips) == 0 {
		s.flip(from+d.w.s.intn(len(frame)), 1<<d.w.s.intn(8))
	}
	return s.first() + logcore.LSN(i)
}

func (s *seg) flip(at int, mask byte) {
	if mask != 0 {
		s.flips = append(s.flips, flip{at: at, mask: mask})
	}
}
