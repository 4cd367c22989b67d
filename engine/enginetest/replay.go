package enginetest

import (
	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/pageserver"
)

// State is a database as plain memory: what replaying a log from empty gives.
type State struct {
	Spaces map[engine.Space]*SpaceState
	// Last is the LSN of the last transaction replayed.
	Last logcore.LSN
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
	// says that it was an image or a delta.
	Touched logcore.LSN
	Written bool
}

// Replay returns the state as of an LSN: every transaction that committed at or
// before it, record by record, and nothing of any other.
func Replay(decoder engine.Decoder, entries []pageserver.Entry, at logcore.LSN) (*State, error) {
	s := &State{Spaces: map[engine.Space]*SpaceState{}}
	open := map[logcore.TxID][][]byte{}
	for _, e := range entries {
		if e.LSN > at {
			break
		}
		switch e.Kind {
		case logcore.KindPart:
			open[e.Tx] = append(open[e.Tx], e.Payload)
			continue
		case logcore.KindAbort:
			delete(open, e.Tx)
			continue
		}
		for _, payload := range append(open[e.Tx], e.Payload) {
			if e.Kind == logcore.KindCommit && len(payload) == 0 {
				continue
			}
			records, _, err := decoder.Decode(nil, payload)
			if err != nil {
				return nil, err
			}
			for _, r := range records {
				s.apply(r, e.LSN)
			}
		}
		delete(open, e.Tx)
		s.Last = e.LSN
	}
	return s, nil
}

func (s *State) apply(r engine.Record, lsn logcore.LSN) {
	if r.Op == engine.OpDrop {
		delete(s.Spaces, r.Space)
		return
	}
	sp := s.Spaces[r.Space]
	if sp == nil {
		sp = &SpaceState{PageSize: r.PageSize}
		s.Spaces[r.Space] = sp
	}
	if r.Op == engine.OpTruncate {
		sp.resize(int(r.Page), lsn)
		return
	}
	sp.resize(max(len(sp.Pages), int(r.Page)+1), lsn)
	p := &sp.Pages[r.Page]
	p.Touched, p.Written = lsn, true
	if r.Op == engine.OpImage {
		copy(p.Data, r.Data)
	} else {
		engine.Apply(p.Data, r.Ranges)
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
