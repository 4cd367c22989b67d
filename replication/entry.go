package replication

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// draftHeaderBytes come before the payload in the data of a Raft entry: kind, time
// and transaction id, which the frame on disk has fields for.
const draftHeaderBytes = 1 + 8 + 16

// Draft is an entry to be proposed: NewDraft, then append the payload. It is the data of
// the Raft entry, so nothing is copied on the way.
type Draft []byte

// NewDraft returns a draft with room for payloadBytes.
func NewDraft(kind logcore.Kind, tx logcore.TxID, payloadBytes int) Draft {
	return AppendDraft(make([]byte, 0, draftHeaderBytes+payloadBytes), kind, tx)
}

// DraftBytes is the length of a draft whose payload has so many bytes.
func DraftBytes(payloadBytes int) int { return draftHeaderBytes + payloadBytes }

// AppendDraft appends a draft without its payload, which is appended next, to b: many
// drafts may stand in one block of memory.
func AppendDraft(b []byte, kind logcore.Kind, tx logcore.TxID) Draft {
	b = append(b, byte(kind), 0, 0, 0, 0, 0, 0, 0, 0)
	return append(b, tx[:]...)
}

// Tx returns the draft's transaction id.
func (d Draft) Tx() (tx logcore.TxID) {
	copy(tx[:], d[9:])
	return tx
}

func (d Draft) setTime(t logcore.HLC) { binary.LittleEndian.PutUint64(d[1:], uint64(t)) }

// entry returns the draft as the entry it becomes. The payload points into the draft.
func (d Draft) entry(lsn logcore.LSN, term uint64) logcore.Entry {
	e := logcore.Entry{LSN: lsn, Term: term, Kind: logcore.Kind(d[0]), Time: logcore.HLC(binary.LittleEndian.Uint64(d[1:])), Payload: d[draftHeaderBytes:]}
	copy(e.Tx[:], d[9:])
	return e
}

// fromRaft turns a Raft entry into the one that is stored. prev is the time of the
// entry before it. The payload points into the Raft entry's data.
func fromRaft(r *raftpb.Entry, prev logcore.HLC) (logcore.Entry, error) {
	lsn, data := logcore.LSN(r.GetIndex()), r.GetData()
	if r.GetType() == raftpb.EntryNormal && len(data) > 0 {
		if len(data) < draftHeaderBytes {
			return logcore.Entry{}, fmt.Errorf("%w: proposal of %d bytes", logcore.ErrCorrupt, len(data))
		}
		return Draft(data).entry(lsn, r.GetTerm()), nil
	}
	e := logcore.Entry{LSN: lsn, Term: r.GetTerm(), Kind: logcore.KindRaft, Time: prev}
	switch r.GetType() {
	case raftpb.EntryConfChange:
		e.Payload = append([]byte{raftKindMembers1}, data...)
	case raftpb.EntryConfChangeV2:
		e.Payload = append([]byte{raftKindMembers2}, data...)
	}
	return e, nil
}

// toRaft is the inverse of fromRaft.
func toRaft(e logcore.Entry) (*raftpb.Entry, error) {
	index, term := uint64(e.LSN), e.Term
	r := &raftpb.Entry{Index: &index, Term: &term}
	if e.Kind != logcore.KindRaft {
		d := append(NewDraft(e.Kind, e.Tx, len(e.Payload)), e.Payload...)
		d.setTime(e.Time)
		r.Data = d
		return r, nil
	}
	if len(e.Payload) == 0 {
		return r, nil
	}
	switch e.Payload[0] {
	case raftKindMembers1:
		r.Type = raftpb.EntryConfChange.Enum()
	case raftKindMembers2:
		r.Type = raftpb.EntryConfChangeV2.Enum()
	default:
		return nil, fmt.Errorf("%w: LSN %d: RAFT entry of sort %d: use a newer build", logcore.ErrUnsupportedVersion, e.LSN, e.Payload[0])
	}
	if len(e.Payload) > 1 {
		r.Data = e.Payload[1:]
	}
	return r, nil
}
