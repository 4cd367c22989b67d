package pagestest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Tail is the end of a log, behind which records are put that no server wrote.
type Tail struct {
	header   payload.Payload
	at, prev wal.Position
}

// TailOf returns the end of a log that Log made.
func TailOf(entries []Entry) (*Tail, error) {
	t := &Tail{}
	var d *wal.Decoder
	var r wal.Record
	for _, e := range entries {
		for _, raw := range e.Payloads {
			p, err := payload.Decode(raw)
			if err != nil {
				return nil, err
			}
			if p.Kind != payload.KindWAL {
				continue
			}
			if d == nil {
				if d, err = wal.NewDecoder(wal.Options{Start: p.Start, SegmentBytes: p.SegmentBytes}); err != nil {
					return nil, err
				}
			}
			d.Feed(p.Content)
			for err = d.Next(&r); err == nil; err = d.Next(&r) {
				t.prev = r.Start
			}
			if !errors.Is(err, wal.ErrMore) {
				return nil, err
			}
			t.header, t.at = p, p.End()
		}
	}
	if d == nil || d.Boundary() != t.at {
		return nil, fmt.Errorf("the log ends at %v, inside a record", t.at)
	}
	t.header.Content = nil
	return t, nil
}

// Record returns the payloads of a transaction that has one more record, in parts of so much WAL.
func (t *Tail) Record(m wal.Manager, info uint8, xid uint32, data []byte, partBytes int) ([][]byte, error) {
	record, err := wal.NewRecord(m, info, xid, t.prev, data)
	if err != nil {
		return nil, err
	}
	id := wal.LogIdentity{SystemID: t.header.SystemID, Timeline: t.header.Timeline, SegmentBytes: t.header.SegmentBytes}
	b, recordAt := id.Place(t.at, record)
	t.prev = recordAt
	var parts [][]byte
	for len(b) > 0 {
		n := min(len(b), partBytes)
		p := t.header
		p.Start, p.Content = t.at, b[:n]
		parts = append(parts, p.Append(make([]byte, 0, payload.HeaderBytes+n)))
		t.at += wal.Position(n)
		b = b[n:]
	}
	return parts, nil
}

// Commit returns the content of a commit record, with what it says of subtransactions and of relations that go.
func Commit(subxacts []uint32, relations []wal.Relation) (info uint8, data []byte) {
	const hasInfo, hasSubxacts, hasRelations = 0x80, 1 << 1, 1 << 2
	le := binary.LittleEndian
	flags := uint32(0)
	var lists bytes.Buffer
	u32 := func(v ...uint32) {
		for _, v := range v {
			lists.Write(le.AppendUint32(nil, v))
		}
	}
	if len(subxacts) > 0 {
		flags |= hasSubxacts
		u32(uint32(len(subxacts)))
		u32(subxacts...)
	}
	if len(relations) > 0 {
		flags |= hasRelations
		u32(uint32(len(relations)))
		for _, r := range relations {
			u32(r.Tablespace, r.Database, r.File)
		}
	}
	data = le.AppendUint64(nil, 800_000_000_000_000) // microseconds
	return wal.TransactionCommit | hasInfo, append(le.AppendUint32(data, flags), lists.Bytes()...)
}
