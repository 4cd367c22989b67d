package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
)

// NewRecord returns the bytes of a record with main data only, of a transaction or, with xid 0, of none, as they
// stand in the log without page headers. One that PostgreSQL could not read back, of 1 GiB or more, is logcore.ErrTooLarge.
func NewRecord(m Manager, info uint8, xid uint32, prev Position, data []byte) ([]byte, error) {
	if len(data) > recordBytesMax-recordHeaderBytes-5 {
		return nil, fmt.Errorf("%w: a record with %d bytes of data", logcore.ErrTooLarge, len(data))
	}
	le := binary.LittleEndian
	b := make([]byte, recordHeaderBytes, recordHeaderBytes+5+len(data))
	if len(data) > 255 {
		b = le.AppendUint32(append(b, blockIDDataLong), uint32(len(data)))
	} else {
		b = append(b, blockIDDataShort, byte(len(data)))
	}
	b = append(b, data...)
	le.PutUint32(b, uint32(len(b)))
	le.PutUint32(b[4:], xid)
	le.PutUint64(b[8:], uint64(prev))
	b[16], b[17] = info, byte(m)
	le.PutUint32(b[20:], checksum(b))
	return b, nil
}

// LogIdentity is what the page headers of a log say.
type LogIdentity struct {
	SystemID     uint64
	Timeline     Timeline
	SegmentBytes uint32
}

// Place returns the bytes of the log from position at on that put record there: with the headers of the
// pages that begin on the way, and its padding. recordAt is where the record begins: at, or
// behind a page header. The log must end at at, between two records.
func (l LogIdentity) Place(at Position, record []byte) (b []byte, recordAt Position) {
	recordAt = at
	if at%PageBytes == 0 {
		b = append(b, l.pageHeader(at, 0)...)
		recordAt += Position(len(b))
	}
	for rest := record; ; {
		here := at + Position(len(b))
		n := min(len(rest), int(PageBytes-here%PageBytes))
		b = append(b, rest[:n]...)
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
		b = append(b, l.pageHeader(at+Position(len(b)), uint32(len(rest)))...)
	}
	for (at+Position(len(b)))%maxAlign != 0 {
		b = append(b, 0)
	}
	return b, recordAt
}

// pageHeader returns the header of the page at a position. remaining is what is left of the
// record that goes on there.
func (l LogIdentity) pageHeader(at Position, remaining uint32) []byte {
	b := make([]byte, pageHeaderLen(at, l.SegmentBytes))
	flags := uint16(0)
	if remaining > 0 {
		flags |= pageContinues
	}
	le := binary.LittleEndian
	if len(b) == longPageHeaderBytes {
		flags |= pageLongHeader
		le.PutUint64(b[24:], l.SystemID)
		le.PutUint32(b[32:], l.SegmentBytes)
		le.PutUint32(b[36:], PageBytes)
	}
	le.PutUint16(b, uint16(Magic15))
	le.PutUint16(b[2:], flags)
	le.PutUint32(b[4:], uint32(l.Timeline))
	le.PutUint64(b[8:], uint64(at))
	le.PutUint32(b[16:], remaining)
	return b
}
