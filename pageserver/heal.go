package pageserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// ancestorsMax bounds how many damaged ancestors of a page are healed on its behalf.
const ancestorsMax = 64

// heal rebuilds one version of a page from the log and stores it as an image in place
// of the damaged one. It counts the damage.
func (s *Server) heal(ctx context.Context, d *damagedPage) error {
	s.healMu.Lock()
	defer s.healMu.Unlock()
	err := s.healOne(ctx, d)
	var below *damagedPage
	for range ancestorsMax {
		if !errors.As(err, &below) || below.owner == d.owner {
			break
		}
		// A branch builds on its parent's page, which is damaged as well: that one first.
		if err = s.healOne(ctx, below); err == nil {
			err = s.healOne(ctx, d)
		}
	}
	return err
}

// healOne heals one version, provided that the parent's page is sound. The caller
// holds healMu.
func (s *Server) healOne(ctx context.Context, d *damagedPage) error {
	if sound, err := s.isSound(d); sound || err != nil {
		return err // somebody else healed it
	}
	s.countDamage(d)
	page, err := s.replayPage(ctx, d)
	if err != nil {
		return fmt.Errorf("pageserver: log %q space %v page %d at LSN %d could not be rebuilt from the log: %w", d.owner.name(), d.space, d.page, d.at.lsn, err)
	}
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	key := appendVersionKey(nil, d.owner.id, d.space, d.page, d.at)
	if err := s.db.Set(key, sealImage(key, page), pebble.NoSync); err != nil {
		return err
	}
	s.dirty.Store(true)
	s.metrics.healed.Inc()
	s.log.Info("pageserver: page rebuilt from the log", "log", d.owner.name(), "space", d.space.String(), "page", d.page, "lsn", uint64(d.at.lsn))
	return nil
}

// isSound reports whether the version can be read down to its image by now.
func (s *Server) isSound(d *damagedPage) (bool, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return false, logcore.ErrClosed
	}
	r := s.newReader()
	defer r.close()
	v, err := r.seek(d.owner, d.space, d.page, d.at)
	if err == nil && v.alive && v.at == d.at {
		_, err = r.materialise(v, d.space, d.page)
		if err == nil {
			return true, nil
		}
	}
	var same *damagedPage
	if err == nil || errors.As(err, &same) {
		return false, nil
	}
	return false, err
}

// replayPage returns the content of a page at a pos by reading the log from the
// beginning (a branch: from where it branched off), as if there were no store.
func (s *Server) replayPage(ctx context.Context, d *damagedPage) ([]byte, error) {
	p := &pageReplay{space: d.space, page: d.page, decoder: d.owner.ingest.decoder, parts: map[logcore.TxID][][]engine.Record{}}
	if d.owner.parent != nil {
		base, err := s.parentPage(d)
		if err != nil {
			return nil, err
		}
		p.content = base
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mine := d.owner.info()
	info, err := s.sourceInfo(ctx, mine.Name)
	if err != nil {
		return nil, err
	}
	if info.Incarnation != mine.Incarnation || info.ID != d.owner.id {
		return nil, errOtherIncarnation
	}
	for batch, err := range s.opts.Source.Follow(ctx, info, d.owner.branch.lsn+1) {
		if err != nil {
			return nil, err
		}
		for _, e := range batch.Entries {
			if e.LSN > d.at.lsn {
				break
			}
			if err := p.entry(e, d.at); err != nil {
				return nil, err
			}
			if e.LSN == d.at.lsn && p.content != nil {
				return p.content, nil
			}
		}
		if batch.Through >= d.at.lsn {
			break
		}
	}
	return nil, fmt.Errorf("%w: the log has no change of the page at that LSN", logcore.ErrCorrupt)
}

// parentPage returns the page as the branch found it.
func (s *Server) parentPage(d *damagedPage) ([]byte, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return nil, logcore.ErrClosed
	}
	r := s.newReader()
	defer r.close()
	p, err := r.page(d.owner.parent, d.space, d.page, d.owner.branch)
	return bytes.Clone(p.data), err
}

// pageReplay is one page, replayed. content is nil while the page does not exist or
// is zeros.
type pageReplay struct {
	space   engine.Space
	page    uint32
	decoder engine.Decoder
	content []byte
	parts   map[logcore.TxID][][]engine.Record // what concerns the page, by part
}

// entry takes over one entry; of the transaction at until, the parts up to it.
func (p *pageReplay) entry(e Entry, until pos) error {
	if e.Kind == logcore.KindAbort {
		delete(p.parts, e.Tx)
		return nil
	}
	var records []engine.Record
	if e.Kind != logcore.KindCommit || len(e.Payload) > 0 {
		var err error
		if records, _, err = p.decoder.Decode(nil, e.Payload); err != nil {
			return err
		}
	}
	if e.Kind == logcore.KindPart {
		p.parts[e.Tx] = append(p.parts[e.Tx], p.concerning(records))
		return nil
	}
	for seq, part := range append(p.parts[e.Tx], records) {
		if e.LSN == until.lsn && uint32(seq) > until.seq {
			break
		}
		for _, r := range part {
			p.record(r)
		}
	}
	delete(p.parts, e.Tx)
	return nil
}

// concerning returns copies of the records that can change the page.
func (p *pageReplay) concerning(records []engine.Record) []engine.Record {
	var mine []engine.Record
	for _, r := range records {
		if r.Space != p.space || (r.Op == engine.OpImage || r.Op == engine.OpDelta) && r.Page != p.page {
			continue
		}
		r.Data = bytes.Clone(r.Data)
		ranges := make([]engine.Range, len(r.Ranges))
		for i, g := range r.Ranges {
			ranges[i] = engine.Range{Offset: g.Offset, Data: bytes.Clone(g.Data)}
		}
		r.Ranges = ranges
		mine = append(mine, r)
	}
	return mine
}

func (p *pageReplay) record(r engine.Record) {
	if r.Space != p.space {
		return
	}
	switch r.Op {
	case engine.OpImage:
		if r.Page == p.page {
			p.content = bytes.Clone(r.Data)
		}
	case engine.OpDelta:
		if r.Page == p.page {
			if p.content == nil {
				p.content = make([]byte, r.PageSize)
			}
			engine.Apply(p.content, r.Ranges)
		}
	case engine.OpTruncate:
		if p.page >= r.Page {
			p.content = nil
		}
	case engine.OpDrop:
		p.content = nil
	}
}
