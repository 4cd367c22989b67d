package appendload

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// Outcomes of an append that has no LSN. Real LSNs are far below.
const (
	refused logcore.LSN = 1<<64 - 1 // nothing was written
	unknown logcore.LSN = 1<<64 - 2 // it may have been
)

// record is what the load knows of one log. Only the log's driver touches it.
type record struct {
	name   string
	number uint32
	// from is where this load's entries begin in the log.
	from logcore.LSN
	// places holds the outcome of each entry, by its number; an entry under way is unknown.
	places []logcore.LSN
}

// Finding is one thing that verification found wrong.
type Finding struct {
	Log    string
	Number uint64
	LSN    logcore.LSN
	What   string
}

func (f Finding) String() string {
	return fmt.Sprintf("log %s, entry %d, LSN %d: %s", f.Log, f.Number, f.LSN, f.What)
}

// Verified counts what verification saw.
type Verified struct {
	Entries    uint64 // of this run, in the logs
	Lost       uint64 // acknowledged, and not there
	Misplaced  uint64 // there, at another LSN than acknowledged, twice, or out of order
	Damaged    uint64 // there, with other bytes, or not written by this load
	Revived    uint64 // refused as not written, and there nevertheless
	Unresolved uint64 // of unknown outcome, and found written
}

// OK reports that nothing is wrong. An entry of unknown outcome may be there or not.
func (v Verified) OK() bool { return v.Lost+v.Misplaced+v.Damaged+v.Revived == 0 }

func (v *Verified) add(w Verified) {
	v.Entries += w.Entries
	v.Lost += w.Lost
	v.Misplaced += w.Misplaced
	v.Damaged += w.Damaged
	v.Revived += w.Revived
	v.Unresolved += w.Unresolved
}

// check holds a log's entries, given to visit in the order of the log, against the
// record. done ends it.
type check struct {
	r       *record
	run     uint64
	bytes   int
	found   func(Finding)
	v       Verified
	next    uint64 // the lowest number that may come
	scratch []byte
}

func (c *check) visit(e client.LogEntry) {
	s, ok := readStamp(e.Payload)
	switch {
	case ok && s.run != c.run:
		return // of another load
	case !ok || s.log != c.r.number || s.number >= uint64(len(c.r.places)) || len(e.Payload) != c.bytes || !s.intact(e.Payload, c.scratch):
		c.v.Damaged++
		c.found(Finding{c.r.name, s.number, e.LSN, "is not what was written"})
		return
	}
	c.v.Entries++
	place := c.r.places[s.number]
	if s.number < c.next {
		c.v.Misplaced++
		c.found(Finding{c.r.name, s.number, e.LSN, fmt.Sprintf("comes behind entry %d: twice or out of order", c.next-1)})
		return
	}
	c.missing(s.number)
	c.next = s.number + 1
	switch {
	case place == refused:
		c.v.Revived++
		c.found(Finding{c.r.name, s.number, e.LSN, "was refused, and is there"})
	case place == unknown:
		c.v.Unresolved++
	case place != e.LSN:
		c.v.Misplaced++
		c.found(Finding{c.r.name, s.number, e.LSN, fmt.Sprintf("was acknowledged at LSN %d", place)})
	}
}

// missing counts the acknowledged entries in [next, upTo) as lost.
func (c *check) missing(upTo uint64) {
	for n := c.next; n < upTo; n++ {
		if place := c.r.places[n]; place != refused && place != unknown {
			c.v.Lost++
			c.found(Finding{c.r.name, n, place, "was acknowledged, and is not there"})
		}
	}
}

func (c *check) done() Verified {
	c.missing(uint64(len(c.r.places)))
	return c.v
}
