package replication

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// proposed is an entry on its way to Raft.
type proposed struct {
	data    []byte
	members bool // a change of the members
}

// pieceBytesMax bounds a piece of a batch: entries that Raft gets as one proposal, without their data, and sends to
// the others as one message. So what is under way to a member stays bounded, although Raft does not
// know how long the entries of the newest message are.
const pieceBytesMax = 256 << 10

// blank stands for every entry whose data Raft is not shown. The library copies what is proposed and never changes it.
var blank = &raftpb.Entry{}

// offer hands a batch to Raft; false when it would not take it.
func (m *Member) offer(p *Proposer) bool {
	m.sinceCheckpoint += p.bytes
	for rest := p.batch; len(rest) > 0; {
		n := pieceOf(rest)
		if err := m.offerPiece(rest[:n], m.spec.LSN+1-logcore.LSN(len(rest))); err != nil {
			m.log.Warn("replication: Raft dropped a proposal", "err", err)
			m.resign()
			return false
		}
		rest = rest[n:]
	}
	return true
}

// pieceOf returns how many entries of a batch go together.
func pieceOf(batch []proposed) (n int) {
	for bytes := 0; n < len(batch); n++ {
		if bytes += len(batch[n].data); bytes > pieceBytesMax {
			break
		}
	}
	return max(n, 1)
}

// offerPiece proposes entries of which the first gets the given LSN.
//
// Raft copies every entry that is proposed to it, data and all, which was most of what it cost. It never looks at the
// data, but for changes of the members; so it gets entries without any, and its copies get theirs here, before anybody
// else sees them: the messages that it makes meanwhile point to the same copies.
func (m *Member) offerPiece(piece []proposed, first logcore.LSN) error {
	entries := make([]*raftpb.Entry, len(piece))
	for i, e := range piece {
		switch {
		case e.members:
			entries[i] = &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: e.data}
		case len(e.data) > pieceBytesMax:
			entries[i] = &raftpb.Entry{Data: e.data}
		default:
			entries[i] = blank
		}
	}
	member := m.state.Member
	if err := m.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &member, Entries: entries}); err != nil {
		return err
	}
	rd := m.rn.Ready()
	filled := 0
	for _, r := range rd.Entries {
		if lsn := logcore.LSN(r.GetIndex()); lsn >= first && r != blank {
			if i := int(lsn - first); !piece[i].members {
				r.Data = piece[i].data
			}
			filled++
		}
	}
	if filled != len(piece) {
		panic(fmt.Sprintf("replication: Raft took %d of %d entries that were proposed from LSN %d on", filled, len(piece), first))
	}
	m.due = append(m.due, rd)
	return nil
}

// nextReady returns what Raft wants done next.
func (m *Member) nextReady() (rd raft.Ready, ok bool) {
	if len(m.due) > 0 {
		rd = m.due[0]
		m.due = append(m.due[:0], m.due[1:]...)
		return rd, true
	}
	if !m.rn.HasReady() {
		return rd, false
	}
	return m.rn.Ready(), true
}
