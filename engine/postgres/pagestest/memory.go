// Package pagestest has what tests of PostgreSQL's decoder share: a store of pages in memory that takes a decoder's
// records in the plainest way, and a log with a base backup and the WAL of a real server.
package pagestest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/pages"
)

// Memory is what the records of a log lead to, now: the second, plain implementation of what a page server does.
type Memory struct {
	Spaces  map[engine.Space]*Space
	Objects map[string][]byte
	State   []byte
	// Failed are pages that a redo record did not fit, with the error. They count for nothing.
	Failed map[PageKey]error
	// Plant, when it is set, makes a mistake: it changes a record before it is taken, or says that it is not.
	Plant func(*engine.Record) (drop bool)
}

// PageKey names a page.
type PageKey struct {
	Space engine.Space
	Page  uint32
}

// Space is a page file.
type Space struct {
	PageSize uint32
	Pages    [][]byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{Spaces: map[engine.Space]*Space{}, Objects: map[string][]byte{}, Failed: map[PageKey]error{}}
}

// Payload takes the next entry's payload.
func (m *Memory) Payload(p []byte) error {
	before := bytes.Clone(m.State)
	records, next, err := pages.Decoder{}.Decode(m.State, p)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, m.State) {
		return fmt.Errorf("the decoder wrote to its state")
	}
	for i := range records {
		if err := records[i].Validate(); err != nil {
			return err
		}
		if m.Plant == nil || !m.Plant(&records[i]) {
			m.record(&records[i])
		}
	}
	m.State = bytes.Clone(next)
	return nil
}

// Transaction takes the payloads of a transaction in one go.
func (m *Memory) Transaction(payloads [][]byte) error {
	before := bytes.Clone(m.State)
	tx, err := engine.Begin(pages.Decoder{}, m.State)
	if err != nil {
		return err
	}
	for _, p := range payloads {
		p = bytes.Clone(p)
		records, err := tx.Decode(p)
		if err != nil {
			return err
		}
		for i := range records {
			if err := records[i].Validate(); err != nil {
				return err
			}
			m.record(&records[i])
		}
		clear(p) // it is the caller's again
	}
	next, err := tx.End()
	if err != nil {
		return err
	}
	if !bytes.Equal(before, m.State) {
		return fmt.Errorf("the decoder wrote to its state")
	}
	m.State = bytes.Clone(next)
	return nil
}

func (m *Memory) record(r *engine.Record) {
	switch r.Op {
	case engine.OpPut:
		if r.Data == nil {
			delete(m.Objects, string(r.Key))
		} else {
			m.Objects[string(r.Key)] = bytes.Clone(r.Data)
		}
	case engine.OpDrop:
		m.drop(func(s engine.Space) bool { return s == r.Space })
	case engine.OpDropGroup:
		m.drop(func(s engine.Space) bool { return s.Hi == r.Space.Hi })
	case engine.OpCopyGroup:
		m.drop(func(s engine.Space) bool { return s.Hi == r.Space.Hi })
		for s, from := range m.Spaces {
			if s.Hi == r.From {
				c := &Space{PageSize: from.PageSize}
				for _, p := range from.Pages {
					c.Pages = append(c.Pages, bytes.Clone(p))
				}
				m.Spaces[engine.Space{Hi: r.Space.Hi, Lo: s.Lo}] = c
			}
		}
	case engine.OpTruncate:
		s := m.space(r)
		for n := int(r.Page); n < len(s.Pages); n++ {
			delete(m.Failed, PageKey{r.Space, uint32(n)})
		}
		s.resize(int(r.Page))
	default:
		m.page(r)
	}
}

func (m *Memory) page(r *engine.Record) {
	s := m.space(r)
	if int(r.Page) >= len(s.Pages) {
		s.resize(int(r.Page) + 1)
	}
	p, key := s.Pages[r.Page], PageKey{r.Space, r.Page}
	if r.Op == engine.OpImage || r.Init {
		delete(m.Failed, key)
		clear(p)
	}
	if r.Op == engine.OpImage {
		copy(p, r.Data)
		return
	}
	if m.Failed[key] != nil {
		return
	}
	if err := (pages.Decoder{}).Redo(p, r.Data); err != nil {
		m.Failed[key] = err
	}
}

func (m *Memory) space(r *engine.Record) *Space {
	s := m.Spaces[r.Space]
	if s == nil {
		s = &Space{PageSize: r.PageSize}
		m.Spaces[r.Space] = s
	}
	return s
}

func (s *Space) resize(n int) {
	s.Pages = s.Pages[:min(n, len(s.Pages))]
	for len(s.Pages) < n {
		s.Pages = append(s.Pages, make([]byte, s.PageSize))
	}
}

func (m *Memory) drop(gone func(engine.Space) bool) {
	for s := range m.Spaces {
		if gone(s) {
			delete(m.Spaces, s)
		}
	}
	for k := range m.Failed {
		if gone(k.Space) {
			delete(m.Failed, k)
		}
	}
}

// Keys returns the keys with a prefix, sorted.
func (m *Memory) Keys(prefix string) (keys []string) {
	for k := range m.Objects {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
