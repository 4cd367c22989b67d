package pages

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Decoder implements engine.Decoder. It has nothing of its own.
type Decoder struct{}

// Format is PostgreSQL's payload format with its decoder.
func Format() engine.Format {
	return engine.Format{Name: payload.Format, Magic: payload.Magic(), Decoder: Decoder{}}
}

// Decode implements engine.Decoder.
func (Decoder) Decode(before, raw []byte) (records []engine.Record, next []byte, err error) {
	p, err := payload.Decode(raw)
	if err != nil {
		return nil, nil, err
	}
	s, err := parseState(before)
	if err != nil {
		return nil, nil, err
	}
	if s.complete && p.SystemID != s.base.SystemID {
		return nil, nil, fmt.Errorf("pages: %w: an entry of the database cluster %d in the log of %d", logcore.ErrCorrupt, p.SystemID, s.base.SystemID)
	}
	e := emitter{s: s}
	switch p.Kind {
	case payload.KindBase, payload.KindBaseEnd:
		if s.complete {
			return nil, before, nil // a later one: the log leads there too
		}
		err = e.backup(p)
	case payload.KindHistory:
		if !s.complete {
			return nil, before, nil // of the time before the base backup
		}
		s.timeline = p.Timeline
		e.put(KeysOf(s.base.Start).History(), p.Content)
	default:
		err = e.wal(p)
	}
	if err != nil {
		return nil, nil, err
	}
	next, err = s.encode()
	return e.records, next, err
}

// backup takes a piece of a base backup, or its end.
func (e *emitter) backup(p payload.Payload) error {
	s := e.s
	if s.base.Start != p.Start || s.base.SystemID != p.SystemID {
		e.giveUp()
		s.base = Base{Start: p.Start, SystemID: p.SystemID, SegmentBytes: p.SegmentBytes}
	}
	if p.Kind == payload.KindBaseEnd {
		return e.backupComplete(p)
	}
	piece, err := payload.DecodePiece(p.Content)
	if err != nil {
		return err
	}
	s.base.Bytes += int64(len(piece.Data))
	return e.piece(piece)
}

// wal takes WAL: records that are in the base backup already count for nothing.
func (e *emitter) wal(p payload.Payload) error {
	s := e.s
	switch {
	case !s.complete:
		return fmt.Errorf("pages: %w: WAL from %v on without a base backup before it", logcore.ErrCorrupt, p.Start)
	case p.Start != s.due || p.SegmentBytes != s.base.SegmentBytes:
		return fmt.Errorf("pages: %w: WAL from %v on, where %v is due", logcore.ErrCorrupt, p.Start, s.due)
	}
	content := p.Content
	if s.from > s.due { // padding
		content = content[min(s.from-s.due, wal.Position(len(content))):]
	} else if len(s.pending) > 0 {
		content = append(append(make([]byte, 0, len(s.pending)+len(content)), s.pending...), content...)
	}
	if len(content) > 0 {
		d, err := wal.NewDecoder(wal.Options{Start: s.from, SegmentBytes: s.base.SegmentBytes, SystemID: s.base.SystemID, Prev: s.prev})
		if err != nil {
			return err
		}
		d.Feed(content)
		from := s.from
		if err := e.apply(d); err != nil {
			return err
		}
		s.from = max(s.from, d.Boundary())
		content = content[min(s.from-from, wal.Position(len(content))):]
	}
	s.due, s.timeline, s.pending = p.End(), p.Timeline, content
	if segment := wal.Position(s.base.SegmentBytes); s.from/segment != s.told/segment && s.from > s.base.Start {
		e.tell(s.from)
	}
	return nil
}

// tell puts the counters, for who reads the log from there on.
func (e *emitter) tell(at wal.Position) {
	s := e.s
	s.told = at
	e.put(KeysOf(s.base.Start).Counters(), Checkpoint{At: at, Prev: s.prev, Counters: s.counters, Settings: s.settings, LastCommit: s.lastCommit}.encode())
}
