package node

import "time"

// pace bounds how fast one stream sends: what was sent must have taken as long as it takes at the rate. Each stream has
// its own.
type pace struct {
	perSecond int64 // bytes
	now       func() time.Time
	begun     time.Time
	total     int64
}

func (n *Node) newPace() *pace {
	return &pace{perSecond: n.opts.FetchBytesPerSecond, now: n.now, begun: n.now()}
}

// sent notes that bytes were sent and returns for how long nothing more is to be.
func (p *pace) sent(bytes int) time.Duration {
	p.total += int64(bytes)
	due := p.begun.Add(time.Duration(float64(p.total) / float64(p.perSecond) * float64(time.Second)))
	return due.Sub(p.now())
}
