package enginetest

import (
	"bytes"
	"maps"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/pageserver"
)

// State is a database as plain memory: what replaying a log from empty gives.
type State struct {
	Spaces map[engine.Space]*SpaceState
	// Objects are the objects that exist, by key.
	Objects map[string]ObjectState
	// Last is the LSN of the last transaction replayed.
	Last logcore.LSN
}

// ObjectState is one object.
type ObjectState struct {
	Data []byte
	Last logcore.LSN // of its last change
}

// SpaceState is one space: its pages, all of them.
type SpaceState struct {
	PageSize uint32
	Pages    []PageState
}

// PageState is one page.
type PageState struct {
	Data []byte
	// Touched is the LSN of the last transaction that could have changed it; Written
	// says that it has content of its own.
	Touched logcore.LSN
	Written bool
}

// Replay returns the state as of an LSN: every transaction that committed at or
// before it, record by record, and nothing of any other.
func Replay(decoder engine.Decoder, entries []pageserver.Entry, at logcore.LSN) (*State, error) {
	p := NewReplayer(decoder)
	for i := range entries {
		if entries[i].LSN > at {
			break
		}
		if err := p.Entry(&entries[i]); err != nil {
			return nil, err
		}
	}
	return p.State, nil
}

// Replayer replays a log entry by entry.
type Replayer struct {
	State   *State
	decoder engine.Decoder
	memory  []byte // the decoder's state
	open    map[logcore.TxID][][]byte
}

// NewReplayer returns a replayer at the beginning of a log.
func NewReplayer(decoder engine.Decoder) *Replayer {
	return &Replayer{State: &State{Spaces: map[engine.Space]*SpaceState{}, Objects: map[string]ObjectState{}}, decoder: decoder, open: map[logcore.TxID][][]byte{}}
}

// Entry takes the next entry over.
func (p *Replayer) Entry(e *pageserver.Entry) error {
	switch e.Kind {
	case logcore.KindPart:
		p.open[e.Tx] = append(p.open[e.Tx], e.Payload)
		return nil
	case logcore.KindAbort:
		delete(p.open, e.Tx)
		return nil
	}
	tx, err := engine.Begin(p.decoder, p.memory)
	if err != nil {
		return err
	}
	for _, payload := range append(p.open[e.Tx], e.Payload) {
		if e.Kind == logcore.KindCommit && len(payload) == 0 {
			continue
		}
		records, err := tx.Decode(payload)
		if err != nil {
			return err
		}
		for i := range records {
			if err := p.State.apply(p.decoder, &records[i], e.LSN); err != nil {
				return err
			}
		}
	}
	if p.memory, err = tx.End(); err != nil {
		return err
	}
	delete(p.open, e.Tx)
	p.State.Last = e.LSN
	return nil
}

func (s *State) apply(decoder engine.Decoder, r *engine.Record, lsn logcore.LSN) error {
	switch r.Op {
	case engine.OpDrop:
		delete(s.Spaces, r.Space)
		return nil
	case engine.OpDropGroup:
		s.dropGroup(r.Space.Hi)
		return nil
	case engine.OpCopyGroup:
		s.copyGroup(r.From, r.Space.Hi, lsn)
		return nil
	case engine.OpPut:
		delete(s.Objects, string(r.Key))
		if r.Data != nil {
			s.Objects[string(r.Key)] = ObjectState{r.Data, lsn}
		}
		return nil
	}
	sp := s.Spaces[r.Space]
	if sp == nil {
		sp = &SpaceState{PageSize: r.PageSize}
		s.Spaces[r.Space] = sp
	}
	if r.Op == engine.OpTruncate {
		sp.resize(int(r.Page), lsn)
		return nil
	}
	sp.resize(max(len(sp.Pages), int(r.Page)+1), lsn)
	p := &sp.Pages[r.Page]
	p.Touched, p.Written = lsn, true
	switch r.Op {
	case engine.OpImage:
		copy(p.Data, r.Data)
	case engine.OpDelta:
		engine.Apply(p.Data, r.Ranges)
	case engine.OpRedo:
		if r.Init {
			clear(p.Data)
		}
		return decoder.Redo(p.Data, r.Data)
	}
	return nil
}

func (s *State) dropGroup(hi uint64) {
	for space := range s.Spaces {
		if space.Hi == hi {
			delete(s.Spaces, space)
		}
	}
}

func (s *State) copyGroup(from, hi uint64, lsn logcore.LSN) {
	if from == hi {
		return
	}
	s.dropGroup(hi)
	for space, sp := range maps.Clone(s.Spaces) {
		if space.Hi != from {
			continue
		}
		to := &SpaceState{PageSize: sp.PageSize}
		for _, p := range sp.Pages {
			to.Pages = append(to.Pages, PageState{bytes.Clone(p.Data), lsn, p.Written})
		}
		s.Spaces[engine.Space{Hi: hi, Lo: space.Lo}] = to
	}
}

func (sp *SpaceState) resize(pages int, lsn logcore.LSN) {
	if pages < len(sp.Pages) {
		sp.Pages = sp.Pages[:pages]
	}
	for len(sp.Pages) < pages {
		sp.Pages = append(sp.Pages, PageState{Data: make([]byte, sp.PageSize), Touched: lsn})
	}
}
