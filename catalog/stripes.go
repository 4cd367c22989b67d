package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// Stripes returns who serves the pages of which stripes. Read-only for callers.
func (s *State) Stripes() stripemap.Map {
	m := s.stripes
	m.Incarnation = s.Incarnation
	return m
}

func (s *State) applyStripes(c Command, lsn logcore.LSN) {
	m, err := s.stripes.Apply(c.Stripes)
	if err != nil {
		panic(fmt.Sprintf("catalog: a command that Check accepted: %v", err))
	}
	m.Generation = uint64(lsn)
	s.stripes = m
}

func (s *State) hasStripes() bool {
	return len(s.stripes.Servers) > 0 || s.stripes.Owners != 0
}

// packStripes puts a change of the stripe map into the fields of a command.
func (c Command) packStripes() Command {
	change := c.Stripes
	c.Node, c.Epoch, c.LSN = change.Server, logcore.Epoch(change.Kind), logcore.LSN(change.Count)
	switch c.Name = change.Address; change.Kind {
	case stripemap.Join, stripemap.Own, stripemap.Leave:
		c.Name = string(change.Stripes.Bytes())
	}
	return c
}

// unpackStripes is the inverse; what a command of its kind does not use has to be zero.
func (c Command) unpackStripes(draining bool) (Command, error) {
	if c.Epoch == 0 || c.Epoch > 255 {
		return Command{}, corrupt("command %v of kind %d", c.Op, c.Epoch)
	}
	change := stripemap.Change{Kind: stripemap.Kind(c.Epoch), Server: c.Node, Draining: draining}
	extra := c.Parent != 0 || c.Incarnation != 0 || c.Writer != "" || c.PayloadFormat != "" || draining && change.Kind != stripemap.Put
	switch change.Kind {
	case stripemap.Put:
		change.Address = c.Name
		extra = extra || c.LSN != 0
	case stripemap.Remove:
		extra = extra || c.LSN != 0 || c.Name != ""
	case stripemap.Join, stripemap.Own, stripemap.Leave:
		set, ok := stripemap.SetOf([]byte(c.Name))
		change.Stripes, extra = set, extra || !ok || c.LSN != 0
	case stripemap.Owners:
		extra = extra || c.Name != "" || c.Node != 0 || c.LSN > stripemap.OwnersMax
		change.Count = int(min(c.LSN, stripemap.OwnersMax+1))
	default:
		return Command{}, fmt.Errorf("%w: catalog command %v of kind %d: use a newer build", logcore.ErrUnsupportedVersion, c.Op, c.Epoch)
	}
	if extra {
		return Command{}, corrupt("command %v, %v: a field that it does not use, or a set of %d bytes", c.Op, change.Kind, len(c.Name))
	}
	return Command{Op: c.Op, Stripes: change}, nil
}

func (s *State) appendStripes(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, s.stripes.Generation)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.stripes.Owners))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.stripes.Servers)))
	for _, p := range s.stripes.Servers {
		var flags uint16
		if p.Draining {
			flags |= pageServerFlagDraining
		}
		b = binary.LittleEndian.AppendUint64(b, p.ID)
		b = binary.LittleEndian.AppendUint16(b, flags)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p.Address)))
		b = append(b, p.Address...)
		b = append(b, p.Owns.Bytes()...)
		b = append(b, p.Joins.Bytes()...)
	}
	return b
}

func (s *State) decodeStripes(src *source) error {
	m := stripemap.Map{Generation: src.u64(), Owners: int(src.u32())}
	count := int(src.u32())
	if src.bad || count > stripemap.ServersMax || m.Generation > uint64(s.LSN) || count == 0 && m.Owners == 0 {
		return corrupt("checkpoint: %d page servers, %d owners, stripe map of LSN %d", count, m.Owners, m.Generation)
	}
	for range count {
		p := stripemap.Server{ID: src.u64()}
		flags, address := src.u16(), int(src.u16())
		if err := unknownFlags("page server in a checkpoint", uint32(flags), pageServerFlagsKnown); err != nil && !src.bad {
			return err
		}
		if address > stripemap.AddressMax {
			return corrupt("checkpoint: page server %016x with an address of %d bytes", p.ID, address)
		}
		p.Draining = flags&pageServerFlagDraining != 0
		p.Address = string(src.bytes(address))
		p.Owns, _ = stripemap.SetOf(src.bytes(stripemap.SetBytes))
		p.Joins, _ = stripemap.SetOf(src.bytes(stripemap.SetBytes))
		if src.bad {
			return corrupt("checkpoint: page server %016x is cut short", p.ID)
		}
		m.Servers = append(m.Servers, p)
	}
	if err := m.Validate(); err != nil {
		return corrupt("checkpoint: %v", err)
	}
	s.stripes = m
	return nil
}
