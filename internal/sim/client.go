package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/logsvc"
)

// client is somebody outside of the shard: a writer of one log, with several appends
// under way, who retries what he is not answered and opens the log again when he was fenced; and a reader.
type client struct {
	w    *world
	id   int
	log  string
	node uint64 // asked next

	opening *operation
	opens   int
	token   logsvc.Token
	next    uint64           // sequence of the next append
	pending []*pendingAppend // in the order of their sequences
	depth   int
	life    int  // rises with every opening: timers of earlier ones are void
	acked   int  // appends
	waits   bool // for a moment, before it sends again
}

// pendingAppend is an append under way.
type pendingAppend struct {
	op       *operation
	sequence uint64
	attempt  int
	unsent   bool // no attempt is under way
}

const (
	openTimeout   = 600 * time.Millisecond
	appendTimeout = 400 * time.Millisecond
	readTimeout   = 800 * time.Millisecond
)

// begin starts a client.
func (c *client) begin() {
	c.choose(0)
	c.open()
	c.wantTakeover()
	c.wantRead()
}

// choose picks whom to ask next: the one whom the last one named, or anybody.
func (c *client) choose(hint uint64) {
	if hint != 0 && hint != c.node && hint <= uint64(len(c.w.nodes)) {
		c.node = hint
		return
	}
	c.node = c.w.anyThere().id
}

func (c *client) call(kind opKind) *operation {
	op := &operation{kind: kind, client: c.id, log: c.log, call: int64(c.w.s.steps), sent: c.w.s.now}
	c.w.history.ops = append(c.w.history.ops, op)
	return op
}

// open asks for a new epoch, whoever has the log now.
func (c *client) open() {
	c.life++
	c.waits = false
	c.opens++
	c.pending = nil
	c.token = logsvc.Token{}
	c.opening = c.call(opOpen)
	c.opening.writer = fmt.Sprintf("c%d.%d", c.id, c.opens)
	c.w.trace.note("client %d opens, attempt %d", uint64(c.id), uint64(c.opens))
	c.askToOpen()
}

func (c *client) askToOpen() {
	life, op := c.life, c.opening
	answered := false
	op.underWay++
	reply := func(n *node, a opened) {
		c.w.net.reply(n.id, func() {
			if !answered {
				answered = true
				c.opened(life, op, a)
			}
		})
	}
	c.request(func(n *node) {
		n.openWriter(c.log, op.writer, func(a opened) { reply(n, a) })
	}, func(n *node, err error) { reply(n, opened{err: err}) })
	c.w.s.after(openTimeout, func() {
		if answered || c.life != life || c.stopped() {
			return
		}
		answered = true
		c.choose(0)
		c.open() // whether that one was granted is not known: ask under another name
	})
}

func (c *client) opened(life int, op *operation, a opened) {
	if a.err == nil {
		op.ret, op.epoch = int64(c.w.s.steps), a.token.Epoch
		c.w.count.Opens++
	} else if refusal(a.err) {
		op.underWay--
	}
	if c.life != life || c.stopped() {
		return
	}
	switch {
	case a.err == nil:
		c.opening, c.token, c.next = nil, a.token, 1
		c.w.trace.note("client %d has epoch %d", uint64(c.id), uint64(a.token.Epoch))
		c.fill()
	case refusal(a.err):
		c.choose(a.leader)
		c.later(c.w.s.between(10*time.Millisecond, 80*time.Millisecond), c.askToOpen)
	default:
		c.choose(a.leader)
		c.open()
	}
}

// refusal reports whether an error says that nothing was written.
func refusal(err error) bool {
	for _, definite := range []error{logcore.ErrNotLeader, logcore.ErrOverloaded, logcore.ErrDiskFull, logcore.ErrFenced, logcore.ErrSequenceGap, logcore.ErrLogNotFound, logcore.ErrWriterActive, logcore.ErrMoved} {
		if errors.Is(err, definite) {
			return true
		}
	}
	return false
}

// later does something unless the writer has been fenced, or opened again, by then.
func (c *client) later(d time.Duration, do func()) {
	life := c.life
	c.w.s.after(d, func() {
		if c.life == life && !c.stopped() {
			do()
		}
	})
}

func (c *client) stopped() bool { return c.w.plan.quiet }

// fill keeps depth appends under way.
func (c *client) fill() {
	for len(c.pending) < c.depth {
		op := c.call(opAppend)
		op.epoch = c.token.Epoch
		binary.LittleEndian.PutUint64(op.tx[:], c.w.s.rng.Uint64()|1)
		binary.LittleEndian.PutUint64(op.tx[8:], c.w.s.rng.Uint64())
		a := &pendingAppend{op: op, sequence: c.next}
		c.next++
		c.pending = append(c.pending, a)
		c.send(a)
	}
}

func (c *client) send(a *pendingAppend) {
	a.attempt++
	a.unsent = false
	attempt, t := a.attempt, c.token
	if attempt > 1 {
		c.w.count.Retries++
	}
	times := 1
	if c.w.s.chance(c.w.net.repeat / 2) {
		times = 2 // a client's own retry overtakes its answer
	}
	a.op.underWay += times
	for range times {
		reply := func(n *node, r appended) {
			c.w.net.reply(n.id, func() { c.answered(a, attempt, r) })
		}
		c.request(func(n *node) {
			n.append(t, a.sequence, a.op.tx, func(r appended) { reply(n, r) })
		}, func(n *node, err error) { reply(n, appended{err: err}) })
	}
	c.later(appendTimeout+c.w.s.between(0, appendTimeout/2), func() {
		if a.op.ret != 0 || a.attempt != attempt || a.unsent {
			return
		}
		if !c.waits {
			c.choose(0)
			c.resend()
		}
	})
}

// resend sends everything again that is not acknowledged, in order.
func (c *client) resend() {
	c.waits = false
	for _, a := range c.pending {
		if a.op.ret == 0 {
			c.send(a)
		}
	}
}

func (c *client) answered(a *pendingAppend, attempt int, r appended) {
	if r.err == nil {
		c.acknowledged(a, r)
		return
	}
	if errors.Is(r.err, logcore.ErrSequenceReused) {
		c.w.failf("client %d: %w", c.id, r.err)
		return
	}
	if refusal(r.err) {
		a.op.underWay--
	}
	if a.op.ret != 0 || a.attempt != attempt || a.unsent || c.stopped() || a.op.epoch != c.token.Epoch {
		return
	}
	if errors.Is(r.err, logcore.ErrFenced) {
		if truth := c.w.oracle.logs[c.token.Log]; truth == nil || truth.epoch <= a.op.epoch {
			c.w.failf("client %d is fenced at epoch %d of log %q, and nobody was granted a newer one: %w", c.id, a.op.epoch, c.log, r.err)
			return
		}
		c.w.count.Fenced++
		c.w.trace.note("client %d is fenced at epoch %d", uint64(c.id), uint64(a.op.epoch))
		c.life++
		c.waits = false
		c.token = logsvc.Token{}
		c.later(c.w.s.between(100*time.Millisecond, 1500*time.Millisecond), c.open)
		return
	}
	a.unsent = true
	if c.waits {
		return // all of them are sent again together
	}
	c.waits = true
	c.choose(r.leader)
	c.later(c.w.s.between(5*time.Millisecond, 60*time.Millisecond), c.resend)
}

func (c *client) acknowledged(a *pendingAppend, r appended) {
	op := a.op
	if op.ret != 0 {
		if op.lsn != r.place.LSN || op.time != r.place.Time {
			c.w.failf("one append, two answers: log %q, epoch %d, sequence %d is at LSN %d and at %d", op.log, op.epoch, a.sequence, op.lsn, r.place.LSN)
		}
		return
	}
	op.ret, op.lsn, op.time = int64(c.w.s.steps), r.place.LSN, r.place.Time
	if _, _, err := op.resolve(c.w.oracle); err != nil {
		c.w.fail(err)
		return
	}
	c.w.count.Acks++
	c.acked++
	c.w.trace.note("client %d: epoch %d sequence %d acknowledged at LSN %d", uint64(c.id), uint64(op.epoch), a.sequence, uint64(op.lsn))
	if c.stopped() || op.epoch != c.token.Epoch {
		return
	}
	for len(c.pending) > 0 && c.pending[0].op.ret != 0 {
		c.pending = c.pending[1:]
	}
	c.later(c.w.s.between(0, c.w.plan.think), c.fill)
}

// wantTakeover takes the log now and then, though it may be another's.
func (c *client) wantTakeover() {
	c.w.s.after(c.w.s.between(time.Second, 4*time.Second), func() {
		if c.stopped() || c.w.calm {
			return
		}
		if c.token.Epoch == 0 && c.opening == nil || c.w.s.chance(0.3) {
			c.choose(0)
			c.open()
		}
		c.wantTakeover()
	})
}

// wantRead reads the log's end now and then, anywhere.
func (c *client) wantRead() {
	c.w.s.after(c.w.s.between(c.w.plan.think, 4*c.w.plan.think), func() {
		if c.stopped() {
			return
		}
		op := c.call(opRead)
		done := false
		again := func() {
			if !done {
				done = true
				c.wantRead()
			}
		}
		to := c.node // mostly the one that leads, as far as it is known
		if c.w.s.chance(0.3) {
			to = c.w.anyThere().id
		}
		reply := func(n *node, r seen) {
			c.w.net.reply(n.id, func() {
				if r.err == nil && op.ret == 0 && !done {
					op.ret, op.epoch, op.lsn, op.count = int64(c.w.s.steps), r.epoch, r.last, r.entries
					c.w.count.Reads++
				}
				again()
			})
		}
		c.requestAt(to, func(n *node) {
			n.read(c.log, func(r seen) { reply(n, r) })
		}, func(n *node, err error) { reply(n, seen{err: err}) })
		c.w.s.after(readTimeout, again)
	})
}
