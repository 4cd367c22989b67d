package pages

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Decoder implements engine.Decoder and engine.Transactional. It has nothing of its own.
type Decoder struct{}

// Format is PostgreSQL's payload format with its decoder.
func Format() engine.Format {
	return engine.Format{Name: payload.Format, Magic: payload.Magic(), Decoder: Decoder{}}
}

// Decode implements engine.Decoder: a transaction of one payload.
func (Decoder) Decode(before, raw []byte) (records []engine.Record, next []byte, err error) {
	e := emitters.Get().(*emitter)
	defer e.release()
	if err := e.begin(before); err != nil {
		return nil, nil, err
	}
	e.last = true
	if records, err = e.decode(raw); err != nil {
		return nil, nil, err
	}
	next, err = e.end()
	return records, next, err
}

// Begin implements engine.Transactional: a WAL record that the payloads of a transaction have in parts is put together in memory, so it can be as long as PostgreSQL's
// longest, 1 GiB, though the decoder's state can't.
func (Decoder) Begin(before []byte) (engine.Transaction, error) {
	t := transaction{new(emitter)}
	return t, t.begin(before)
}

// transaction is an engine.Transaction. The emitter's own methods of these names are a Sink's.
type transaction struct{ *emitter }

func (t transaction) Decode(raw []byte) ([]engine.Record, error) { return t.decode(raw) }
func (t transaction) End() ([]byte, error)                       { return t.end() }

// begin begins a transaction.
func (e *emitter) begin(before []byte) error {
	e.before, e.changed, e.last, e.reading, e.long = before, false, false, false, false
	return e.s.parse(before)
}

func (e *emitter) decode(raw []byte) ([]engine.Record, error) {
	p, err := payload.Decode(raw)
	if err != nil {
		return nil, err
	}
	s := &e.s
	if s.complete && p.SystemID != s.base.SystemID {
		return nil, fmt.Errorf("pages: %w: an entry of the database cluster %d in the log of %d", logcore.ErrCorrupt, p.SystemID, s.base.SystemID)
	}
	switch p.Kind {
	case payload.KindBase, payload.KindBaseEnd:
		if s.complete {
			return nil, nil // a later one: the log leads there too
		}
		err = e.backup(p)
	case payload.KindHistory:
		if !s.complete {
			return nil, nil // of the time before the base backup
		}
		s.timeline = p.Timeline
		e.put(KeysOf(s.base.Start).History(), p.Content)
	default:
		err = e.wal(p)
	}
	if err != nil {
		return nil, err
	}
	e.changed = true
	return e.finish(), nil
}

func (e *emitter) end() ([]byte, error) {
	switch {
	case !e.changed:
		return e.before, nil
	case e.long:
		return nil, fmt.Errorf("pages: %w: the transaction ends inside the WAL record at %v, of which it has more than %d bytes", logcore.ErrTooLarge, e.s.from, pendingMax)
	}
	return e.s.encode()
}

// backup takes a piece of a base backup, or its end.
func (e *emitter) backup(p payload.Payload) error {
	s := &e.s
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
	s := &e.s
	switch {
	case !s.complete:
		return fmt.Errorf("pages: %w: WAL from %v on without a base backup before it", logcore.ErrCorrupt, p.Start)
	case p.Start != s.due || p.SegmentBytes != s.base.SegmentBytes:
		return fmt.Errorf("pages: %w: WAL from %v on, where %v is due", logcore.ErrCorrupt, p.Start, s.due)
	}
	content := p.Content
	if !e.reading && s.from > s.due { // padding
		content = content[min(s.from-s.due, wal.Position(len(content))):]
	}
	if len(content) > 0 {
		if err := e.read(content); err != nil {
			return err
		}
	}
	s.due, s.timeline = p.End(), p.Timeline
	e.keep(p)
	if segment := wal.Position(s.base.SegmentBytes); s.from/segment != s.told/segment && s.from > s.base.Start {
		e.tell(s.from)
	}
	return nil
}

// read takes the next bytes of the log to pieces, those first that a state had.
func (e *emitter) read(content []byte) error {
	s := &e.s
	if !e.reading {
		opts := wal.Options{Start: s.from, SegmentBytes: s.base.SegmentBytes, SystemID: s.base.SystemID, Prev: s.prev}
		if err := e.walker.Reset(opts); err != nil {
			return err
		}
		e.reading = true
		if len(s.pending) > 0 {
			e.walker.Feed(s.pending)
		}
	}
	e.walker.Feed(content)
	if err := e.apply(); err != nil {
		return err
	}
	s.from = max(s.from, e.walker.Boundary())
	return nil
}

// keep keeps what comes behind the last whole record: the state begins with it when the transaction ends here. A payload that isn't the last does not live long, so
// its bytes are copied; when they are more than a state can have the record has to end in this transaction.
func (e *emitter) keep(p payload.Payload) {
	s := &e.s
	if s.from >= p.Start || !e.reading {
		tail := p.Content[min(max(s.from, p.Start)-p.Start, wal.Position(len(p.Content))):]
		e.long = len(tail) > pendingMax
		switch {
		case e.last:
			s.pending = tail
		case !e.long:
			s.pending = append([]byte(nil), tail...)
		}
		return
	}
	if e.long = e.long || len(s.pending)+len(p.Content) > pendingMax; e.long {
		s.pending = nil
		return
	}
	s.pending = append(s.pending[:len(s.pending):len(s.pending)], p.Content...)
}

// tell puts the counters, for who reads the log from there on.
func (e *emitter) tell(at wal.Position) {
	s := &e.s
	s.told = at
	e.put(KeysOf(s.base.Start).Counters(), Checkpoint{At: at, Prev: s.prev, Counters: s.counters, Settings: s.settings, LastCommit: s.lastCommit}.encode())
}
