package archived

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/tiering"
)

// gatherFor is how long a pass waits for others before it begins: page servers ask for all
// their logs at once.
const gatherFor = 50 * time.Millisecond

// pass goes over what is archived of a shard once, for all who joined it in time. The slowest
// of them sets the pace: what waits for a reader is bounded by one span each.
type pass struct {
	s      *shard
	ctx    context.Context
	cancel context.CancelFunc

	// Guarded by shard.mu.
	begun bool
	next  logcore.LSN // the first index of the next span; set once it has begun
	to    logcore.LSN // the last index; set once it has begun
	subs  map[*sub]struct{}
}

// sub is one reader's part in a pass: the entries of one log from an index on. Indexes are
// LSNs of the shard.
type sub struct {
	pass *pass
	log  logcore.LogID
	from logcore.LSN
	// parts is closed by the pass when it ends; err is set before.
	parts chan part
	gone  chan struct{} // closed by the reader when it wants no more
	err   error
}

// part is what one span has of a log.
type part struct {
	entries []pageserver.Entry // shared with others who read the log; LSNs are indexes
	through logcore.LSN
	err     error // the log's own
}

// join has a reader take part in a pass that gets at least as far as there is something for it.
func (s *shard) join(log logcore.LogID, from logcore.LSN) (*sub, error) {
	n := &sub{log: log, from: from, parts: make(chan part, 1), gone: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.running {
		if p.next <= from && from <= p.to {
			n.pass = p
		}
	}
	if n.pass == nil {
		if s.pending == nil {
			if err := s.newPass(); err != nil {
				return nil, err
			}
		}
		n.pass = s.pending
	}
	n.pass.subs[n] = struct{}{}
	return n, nil
}

// newPass makes the pass that the next readers join; the caller holds mu.
func (s *shard) newPass() error {
	p := &pass{s: s, subs: map[*sub]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(s.a.ctx)
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if s.a.closed {
		return fmt.Errorf("archived: %w", logcore.ErrClosed)
	}
	s.pending = p
	s.a.passes.Go(p.run)
	return nil
}

// leave ends a reader's part. A pass that nobody wants ends.
func (n *sub) leave() {
	close(n.gone)
	n.pass.s.mu.Lock()
	defer n.pass.s.mu.Unlock()
	delete(n.pass.subs, n)
	if len(n.pass.subs) == 0 && n.pass.begun {
		delete(n.pass.s.running, n.pass) // nobody joins it any more
		n.pass.cancel()
	}
}

func (p *pass) run() {
	defer p.cancel()
	err := p.pass()
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == p {
		s.pending = nil
	}
	delete(s.running, p)
	for n := range p.subs {
		n.err = err
		close(n.parts)
	}
	p.subs = nil
}

// pass begins once there is a slot, and goes up to what is archived then.
func (p *pass) pass() error {
	select {
	case <-time.After(gatherFor):
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	select {
	case p.s.a.slots <- struct{}{}:
		defer func() { <-p.s.a.slots }()
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	r, covered, err := p.s.covered(p.ctx)
	from, wanted := p.begin(covered)
	if err != nil || !wanted || from > covered {
		return err
	}
	for span, err := range r.Spans(p.ctx, from, covered) {
		if err != nil {
			return err
		}
		subs := p.readers(span.Last + 1)
		if len(subs) == 0 {
			return nil
		}
		logs, err := split(span, subs, r)
		if err != nil {
			return err
		}
		for _, n := range subs {
			if err := p.hand(n, logs[n.log], span.Last); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin fixes where the pass begins and ends: from here on only who is ahead of it may join.
func (p *pass) begin(covered logcore.LSN) (from logcore.LSN, wanted bool) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.pending, p.begun = nil, true
	from = covered + 1
	for n := range p.subs {
		from = min(from, n.from)
	}
	p.next, p.to = from, covered
	p.s.running[p] = struct{}{}
	return from, len(p.subs) > 0
}

// readers returns who gets a part of the span that is read, and lets nobody join any more who
// needs something of it; next is the index after it.
func (p *pass) readers(next logcore.LSN) []*sub {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.next = next
	out := make([]*sub, 0, len(p.subs))
	for n := range p.subs {
		out = append(out, n)
	}
	return out
}

// hand gives a reader its part of a span, when there is any for it.
func (p *pass) hand(n *sub, of part, last logcore.LSN) error {
	if n.from > last {
		return nil
	}
	of.through = last
	for len(of.entries) > 0 && of.entries[0].LSN < n.from {
		of.entries = of.entries[1:]
	}
	select {
	case n.parts <- of:
	case <-n.gone:
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	return nil
}

// split decodes a span once for all who read it.
func split(span tiering.Span, subs []*sub, r *tiering.Reader) (map[logcore.LogID]part, error) {
	logs := make(map[logcore.LogID]part, len(subs))
	for _, n := range subs {
		logs[n.log] = part{}
	}
	for e, err := range toSegment(span).Entries() {
		if err != nil {
			return nil, fmt.Errorf("archived entries of LSN %d to %d: %w", span.First, span.Last, err)
		}
		if !e.Kind.OfLog() {
			continue
		}
		rec, err := catalog.DecodeRecord(e.Payload)
		if err != nil {
			return nil, fmt.Errorf("archived entry at LSN %d: %w", e.LSN, err)
		}
		of, wanted := logs[rec.Log]
		if !wanted || of.err != nil {
			continue
		}
		if rec.Erased && r.Erased(rec.Log, e.LSN) {
			of.err = fmt.Errorf("archived: %w: what the entry at LSN %d held was erased from the archive by its retention or with what was truncated", logcore.ErrTrimmed, e.LSN)
		} else {
			of.entries = append(of.entries, pageserver.Entry{LSN: e.LSN, Time: e.Time, Kind: e.Kind, Tx: e.Tx, Epoch: rec.Epoch, Sequence: rec.Sequence, Payload: rec.Body})
		}
		logs[rec.Log] = of
	}
	return logs, nil
}
