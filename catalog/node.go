package catalog

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/logcore/logcore"
)

// Node is where a node of the cluster is. Its id is the Raft id of its members.
type Node struct {
	ID          uint64
	Address     string // of its services, HOST:PORT
	PeerAddress string // for the other nodes, HOST:PORT
}

// Nodes returns every node whose addresses are known, by id.
func (s *State) Nodes() []Node {
	out := make([]Node, 0, len(s.nodes))
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		out = append(out, s.nodes[id])
	}
	return out
}

// Node returns a node; false when its addresses are not known.
func (s *State) Node(id uint64) (Node, bool) {
	n, ok := s.nodes[id]
	return n, ok
}

func (s *State) checkNode(c Command) error {
	if c.Node == 0 {
		return fmt.Errorf("%w: node 0", logcore.ErrInvalid)
	}
	if c.Name == "" && c.Writer == "" {
		if _, ok := s.nodes[c.Node]; !ok {
			return fmt.Errorf("%w: node %x is not known", logcore.ErrInvalid, c.Node)
		}
		return nil
	}
	for _, addr := range []string{c.Name, c.Writer} {
		if _, _, err := net.SplitHostPort(addr); err != nil || len(addr) > NodeAddressMax {
			return fmt.Errorf("%w: node %x: address %q: want HOST:PORT, at most %d bytes", logcore.ErrInvalid, c.Node, addr, NodeAddressMax)
		}
	}
	if _, ok := s.nodes[c.Node]; !ok && len(s.nodes) >= NodesMax {
		return fmt.Errorf("%w: the cluster has %d nodes, the most it can", logcore.ErrTooLarge, NodesMax)
	}
	for _, n := range s.nodes {
		if n.ID != c.Node && n.PeerAddress == c.Writer {
			return fmt.Errorf("%w: %s is the address of node %x already: replace that one", logcore.ErrInvalid, c.Writer, n.ID)
		}
	}
	return nil
}

func (s *State) applyNode(c Command) {
	if c.Name == "" && c.Writer == "" {
		delete(s.nodes, c.Node)
		return
	}
	s.nodes[c.Node] = Node{ID: c.Node, Address: c.Name, PeerAddress: c.Writer}
}

func (s *State) appendNodes(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.nodes)))
	for _, n := range s.Nodes() {
		b = binary.LittleEndian.AppendUint64(b, n.ID)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(n.Address)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(n.PeerAddress)))
		b = append(b, n.Address...)
		b = append(b, n.PeerAddress...)
	}
	return b
}

func (s *State) decodeNodes(src *source) error {
	count := int(src.u32())
	if src.bad || count == 0 || count > NodesMax {
		return corrupt("checkpoint: %d nodes", count)
	}
	prev := uint64(0)
	for range count {
		n := Node{ID: src.u64()}
		address, peer := int(src.u16()), int(src.u16())
		if address > NodeAddressMax || peer > NodeAddressMax {
			return corrupt("checkpoint: node %x with addresses of %d and %d bytes", n.ID, address, peer)
		}
		n.Address, n.PeerAddress = string(src.bytes(address)), string(src.bytes(peer))
		if src.bad || n.ID <= prev || address == 0 || peer == 0 {
			return corrupt("checkpoint: node %x after %x: cut short, doubled or without an address", n.ID, prev)
		}
		s.nodes[n.ID], prev = n, n.ID
	}
	return nil
}
