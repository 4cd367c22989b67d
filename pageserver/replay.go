package pageserver

import (
	"bytes"
	"context"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// changedPage is a page as of a change.
type changedPage struct {
	at      pos
	content []byte
}

// replayPage returns the content of a page at a place, and after each of its changes from
// there up to another, by reading the log from the beginning (a branch: from where it
// branched off), as if there were no store.
func (s *Server) replayPage(ctx context.Context, owner *logState, id pageID, at, until pos) ([]changedPage, error) {
	p := &pageReplay{s: s, ctx: ctx, owner: owner, id: id, from: at, until: until, decoder: owner.decoderOf(), parts: map[logcore.TxID][][]byte{}}
	if owner.parent != nil {
		if err := p.beginAtParent(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mine := owner.info()
	info, err := s.sourceInfo(ctx, mine.Name)
	if err != nil {
		return nil, err
	}
	if info.Incarnation != mine.Incarnation || info.ID != owner.id {
		return nil, errOtherIncarnation
	}
	for batch, err := range s.opts.Source.Follow(ctx, info, owner.branch.lsn+1) {
		if err != nil {
			return nil, err
		}
		for i := range batch.Entries {
			e := &batch.Entries[i]
			if e.LSN > until.lsn {
				break
			}
			if err := p.entry(e); err != nil {
				return nil, err
			}
		}
		if batch.Through >= until.lsn {
			break
		}
	}
	p.changed()
	if len(p.changes) == 0 || p.changes[0].at != at {
		return nil, fmt.Errorf("%w: the log has no change of the page at that LSN", logcore.ErrCorrupt)
	}
	return p.changes, nil
}

// pageReplay is one page, replayed. content is nil while the page does not exist or
// is zeros.
type pageReplay struct {
	s       *Server
	ctx     context.Context // of the one call that this is
	owner   *logState
	id      pageID
	from    pos // changes are wanted from here
	until   pos
	changes []changedPage
	last    pos // of the page's last change; zero when it was taken over
	decoder engine.Decoder
	state   []byte
	tx      engine.Transaction // nil between two
	content []byte
	parts   map[logcore.TxID][][]byte
}

// beginAtParent takes over the page, and the decoder's state, as the branch found them.
func (p *pageReplay) beginAtParent() error {
	p.s.storeMu.RLock()
	defer p.s.storeMu.RUnlock()
	if p.s.db == nil {
		return logcore.ErrClosed
	}
	r := p.s.newReader()
	defer r.close()
	page, err := r.page(p.owner.parent, p.id.space, p.id.page, p.owner.branch)
	if err != nil {
		return err
	}
	p.content = bytes.Clone(page.data)
	p.state, err = r.decoderState(p.owner.parent, p.owner.branch)
	return err
}

// entry takes over one entry, as far as it comes before the end of the replay.
func (p *pageReplay) entry(e *Entry) error {
	switch e.Kind {
	case logcore.KindAbort:
		delete(p.parts, e.Tx)
		return nil
	case logcore.KindPart:
		p.parts[e.Tx] = append(p.parts[e.Tx], bytes.Clone(e.Payload))
		return nil
	}
	payloads := p.parts[e.Tx]
	delete(p.parts, e.Tx)
	if e.Kind != logcore.KindCommit || len(e.Payload) > 0 {
		payloads = append(payloads, e.Payload)
	}
	at := pos{e.LSN, 0}
	for _, payload := range payloads {
		var err error
		if at, err = p.payload(at, payload); err != nil {
			return err
		}
	}
	if p.tx == nil {
		return nil
	}
	next, err := p.tx.End()
	p.state, p.tx = next, nil
	return err
}

// payload takes over the records of a payload; places are counted as they are when it
// is ingested.
func (p *pageReplay) payload(at pos, payload []byte) (pos, error) {
	if p.decoder == nil {
		format, err := p.s.opts.Formats.Of(payload)
		if err != nil {
			return at, err
		}
		p.decoder = format.Decoder
	}
	if p.tx == nil {
		tx, err := engine.Begin(p.decoder, p.state)
		if err != nil {
			return at, err
		}
		p.tx = tx
	}
	records, err := p.tx.Decode(payload)
	if err != nil {
		return at, err
	}
	for i := range records {
		group := records[i].Op == engine.OpDropGroup || records[i].Op == engine.OpCopyGroup
		if group {
			at.seq++
		}
		if p.until.less(at) {
			return at, nil
		}
		if err := p.record(&records[i], at); err != nil {
			return at, err
		}
		if group {
			at.seq += groupPlaces - 1
		}
	}
	at.seq++
	return at, nil
}

// changed keeps the page as its last change left it, where that is wanted.
func (p *pageReplay) changed() {
	if p.content != nil && !p.last.less(p.from) && (len(p.changes) == 0 || p.changes[len(p.changes)-1].at != p.last) {
		p.changes = append(p.changes, changedPage{p.last, bytes.Clone(p.content)})
	}
}

func (p *pageReplay) record(r *engine.Record, at pos) error {
	switch r.Op {
	case engine.OpDropGroup, engine.OpCopyGroup:
		return p.group(r, at)
	}
	if r.Space != p.id.space {
		return nil
	}
	mine := r.Page == p.id.page
	if p.last != at {
		p.changed()
	}
	if mine && (r.Op == engine.OpImage || r.Op == engine.OpDelta || r.Op == engine.OpRedo) {
		p.last = at
	}
	switch {
	case r.Op == engine.OpImage && mine:
		p.content = bytes.Clone(r.Data)
	case r.Op == engine.OpDelta && mine:
		p.exist(r)
		engine.Apply(p.content, r.Ranges)
	case r.Op == engine.OpRedo && mine:
		if r.Init {
			p.content = nil
		}
		p.exist(r)
		return redo(p.decoder, p.content, r.Data)
	case r.Op == engine.OpTruncate && p.id.page >= r.Page, r.Op == engine.OpDrop:
		p.content = nil
	}
	return nil
}

func (p *pageReplay) exist(r *engine.Record) {
	if p.content == nil {
		p.content = make([]byte, r.PageSize)
	}
}

// group takes over that the page's group went, or became a copy of another one: then its
// content is what the page with its number there was.
func (p *pageReplay) group(r *engine.Record, at pos) error {
	if r.Space.Hi != p.id.space.Hi || r.Op == engine.OpCopyGroup && r.From == r.Space.Hi {
		return nil
	}
	p.changed()
	p.content = nil
	copied := pos{at.lsn, at.seq + 1}
	if p.last = copied; r.Op == engine.OpDropGroup || p.until.less(copied) {
		return nil
	}
	origin := pageID{engine.Space{Hi: r.From, Lo: p.id.space.Lo}, p.id.page}
	p.s.storeMu.RLock()
	defer p.s.storeMu.RUnlock()
	if p.s.db == nil {
		return logcore.ErrClosed
	}
	reader := p.s.newReader()
	defer reader.close()
	page, err := reader.page(p.owner, origin.space, origin.page, at)
	if err != nil {
		return err // damaged as well: a read of it heals it
	}
	p.content = bytes.Clone(page.data)
	return nil
}
