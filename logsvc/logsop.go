package logsvc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/replication"
)

// logsOp is one message of an AppendLogs stream on its way through the loop.
type logsOp struct {
	s     *Service // of its shard
	lane  *lane
	parts []logsPart
	bytes int // on the disk
	count int // entries
	begun time.Time
	give  func() // returns what was taken of the budget
	// err is why the loop could not take it, or lost it on the way: every part's that has
	// none of its own.
	err      error // guarded by the stream's mu, until finished
	finished bool  // guarded by the stream's mu
}

// logsPart is what a message has for one channel.
type logsPart struct {
	ch     *channel
	first  uint64 // sequence of the first draft
	drafts []replication.Draft
	places []catalog.Place // written by prepare
	index  logcore.LSN     // in the shard, of the last of them; written by prepare
	// err refuses it: from the start, when the receiver found it wanting, or by prepare.
	err error
}

// stage waits for memory and lays the entries of a message out as they will be stored:
// all in one block, for they live and die together; and makes of them one op for each shard that
// they are for. An error ends the stream; what is wrong with one log's entries is kept in its part.
func (st *logsStream) stage(ctx context.Context, raw *wire.Raw, reader *wire.AppendsReader) ([]*logsOp, error) {
	b := raw.Bytes()
	defer raw.Free()
	give, err := st.s.budget.take(ctx, int64(len(b)))
	if err != nil {
		return nil, err
	}
	g := stager{st: st, begun: time.Now()}
	appends, err := reader.Read(b)
	if err == nil {
		err = g.lays(appends)
	}
	if err != nil || len(g.ops) == 0 {
		give()
		return nil, err
	}
	if len(g.ops) > 1 {
		give = shared(len(g.ops), give)
	}
	for _, op := range g.ops {
		op.give = give
		st.s.budget.staged.Add(int64(op.bytes))
	}
	return g.ops, nil
}

// shared returns a function of which the n-th call calls f.
func shared(n int, f func()) func() {
	var left atomic.Int32
	left.Store(int32(n))
	return func() {
		if left.Add(-1) == 0 {
			f()
		}
	}
}

// stager lays out one message.
type stager struct {
	st     *logsStream
	ops    []*logsOp // one for each shard
	begun  time.Time
	parts  int                 // the message is for so many channels
	block  []byte              // the drafts, one behind the other
	drafts []replication.Draft // what is left of the message's lists
	places []catalog.Place
}

// lays lays out a message.
func (g *stager) lays(appends []wire.LogAppend) error {
	entries, bytes := 0, 0
	for i := range appends {
		entries += len(appends[i].Entries)
		for j := range appends[i].Entries {
			e := &appends[i].Entries[j]
			bytes += replication.DraftBytes(catalog.RecordHeaderBytes + len(e.Payload) + len(e.Position))
		}
	}
	g.parts, g.block = len(appends), make([]byte, 0, bytes)
	g.drafts, g.places = make([]replication.Draft, entries), make([]catalog.Place, entries)
	for i := range appends {
		if err := g.add(&appends[i]); err != nil {
			return err
		}
	}
	return nil
}

// add lays out what the message has for one channel.
func (g *stager) add(a *wire.LogAppend) error {
	ch, err := g.st.channel(a)
	if ch == nil {
		return err
	}
	if ch.closed {
		return nil // behind what was refused
	}
	part := logsPart{ch: ch, err: err}
	if err == nil {
		part.err = g.lay(&part, a)
	}
	if part.err != nil {
		ch.closed = true
		part.drafts, part.places = nil, nil
	}
	op := g.op(ch.s)
	op.parts = append(op.parts, part)
	for _, d := range part.drafts {
		op.bytes += len(d) + frameBytes
	}
	op.count += len(part.drafts)
	return nil
}

// op returns the message's op for a shard.
func (g *stager) op(s *Service) *logsOp {
	for _, op := range g.ops {
		if op.s == s {
			return op
		}
	}
	op := &logsOp{s: s, lane: g.st.lane(s), begun: g.begun, parts: make([]logsPart, 0, g.parts)}
	g.ops = append(g.ops, op)
	return op
}

// channel returns the channel that a is for, opened if it is new. An error with a channel
// refuses that, one without the stream.
func (st *logsStream) channel(a *wire.LogAppend) (*channel, error) {
	if ch := st.channels[a.Channel]; ch != nil {
		return ch, nil
	}
	if a.Channel == 0 {
		return nil, fmt.Errorf("%w: channel 0", logcore.ErrInvalid)
	}
	if len(st.channels) >= channelsMax {
		return nil, fmt.Errorf("%w: the stream has opened %d channels: open another stream", logcore.ErrOverloaded, channelsMax)
	}
	ch := &channel{id: a.Channel, log: a.Log, s: st.s}
	st.channels[a.Channel] = ch
	s, err := st.s.shards.find(a.Log)
	if err != nil {
		return ch, err
	}
	ch.s = s
	l, err := s.logByName(a.Log)
	ch.token = Token{l.ID, logcore.Epoch(a.Epoch), a.Incarnation}
	if err == nil {
		ch.archived, err = l.Durability == catalog.DurabilityArchive, s.coverage.check(&l)
	}
	return ch, err
}

func (g *stager) lay(part *logsPart, a *wire.LogAppend) error {
	n := len(a.Entries)
	if n > requestEntriesMax {
		return fmt.Errorf("%w: append of %d entries, at most %d", logcore.ErrInvalid, n, requestEntriesMax)
	}
	if n == 0 {
		return nil
	}
	part.first = a.Entries[0].Sequence
	part.drafts, g.drafts = g.drafts[:n:n], g.drafts[n:]
	part.places, g.places = g.places[:n:n], g.places[n:]
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Sequence == 0 || e.Sequence != part.first+uint64(i) {
			return fmt.Errorf("%w: sequence %d at place %d of a message that begins with %d", logcore.ErrSequenceGap, e.Sequence, i, part.first)
		}
		r, kind, tx, err := g.st.s.record(part.ch.token, e)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", e.Sequence, err)
		}
		from := len(g.block)
		g.block = r.Append(replication.AppendDraft(g.block, kind, tx))
		part.drafts[i] = replication.Draft(g.block[from:len(g.block):len(g.block)])
	}
	return nil
}

// errBehind: a part of a channel that has failed. Nobody is told: the channel's own error
// was.
var errBehind = errors.New("logsvc: behind what was refused")

// prepare runs on the loop. What refuses one log's entries is its part's: it must not
// refuse the others'.
func (op *logsOp) prepare(p *replication.Proposer) error {
	op.s.leases.enter(p.Term(), p.Since())
	now := op.s.leases.now()
	for i := range op.parts {
		part := &op.parts[i]
		ch := part.ch
		switch {
		case ch.failed != nil:
			part.err = errBehind
			continue
		case part.err != nil:
		case len(part.drafts) == 0:
			_, part.err = ch.token.check(p)
		default:
			part.index, part.err = PrepareAppend(p, ch.token, part.first, part.drafts, part.places)
		}
		if ch.failed = part.err; part.err == nil {
			op.s.leases.renewHeld(&ch.lease, ch.token.Log, now)
		}
	}
	return nil
}

// fail ends the channels of a message that the loop lost or did not take. It runs on the
// loop.
func (op *logsOp) fail(err error) {
	for i := range op.parts {
		if ch := op.parts[i].ch; ch.failed == nil {
			ch.failed = err
		}
	}
}

// done lets go of the entries: the loop is done with them, or never got them.
func (op *logsOp) done() {
	for i := range op.parts {
		op.parts[i].drafts = nil
	}
	op.lane.s.shards.all[0].budget.staged.Add(-int64(op.bytes))
	op.give()
}

// answerSize is how long its answer is, about: errors are longer, but rare.
func (op *logsOp) answerSize() int { return 64 + 32*len(op.parts) + 16*op.count }

// answer appends what the client is told of a message that is done. What must wait for the
// archive, and what comes behind that on its channel, is held.
func (op *logsOp) answer(b []byte, held *heldAnswers) []byte {
	acked := 0
	bytes := op.bytes
	var a wire.LogAppended
	for i := range op.parts {
		part := &op.parts[i]
		err := part.err
		if err == nil || op.err != nil && errors.Is(err, logcore.ErrFenced) {
			err = op.err // what fenced it may not have come to pass
		}
		switch {
		case part.ch.told:
		case err != nil && part.ch.holding > 0:
			part.ch.told = true
			held.hold(heldAnswer{ch: part.ch, b: wire.AppendRefused(nil, part.ch.id, op.s.located(err), part.ch.log)})
		case err != nil:
			part.ch.told = true
			b = wire.AppendRefused(b, part.ch.id, op.s.located(err), part.ch.log)
		case len(part.places) > 0:
			a.Channel, a.Through = part.ch.id, part.first+uint64(len(part.places))-1
			a.LSNs, a.Times = a.LSNs[:0], a.Times[:0]
			a.PauseMs = uint32(op.s.debts.pause(part.ch.token.Log).Milliseconds())
			for _, p := range part.places {
				a.LSNs, a.Times = append(a.LSNs, uint64(p.LSN)), append(a.Times, uint64(p.Time))
			}
			if part.ch.archived {
				held.hold(heldAnswer{ch: part.ch, b: wire.AppendAppended(nil, &a), lsn: part.index, begun: op.begun, entries: len(part.places), bytes: bytes})
				bytes = 0
				continue
			}
			b = wire.AppendAppended(b, &a)
			acked += len(part.places)
		}
	}
	if acked > 0 {
		op.s.metrics.acknowledged(op.begun, acked, bytes)
	}
	return b
}
