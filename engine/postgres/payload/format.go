// Package payload is what a log's entries hold when the log is PostgreSQL's: raw WAL, cut
// between records, and the history files of timelines. FORMAT.md has the bytes.
package payload

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Format is the payload format that a writer of such a log announces.
const Format = "postgres-wal"

const (
	magic            = 0x5750434c // "LCPW"
	formatVersion    = 1
	minReaderVersion = 1
	flagsKnown       = 0
	// HeaderBytes come before the content.
	HeaderBytes = 48
)

// Magic returns the bytes that every payload begins with.
func Magic() []byte { return binary.LittleEndian.AppendUint32(nil, magic) }

// Kind says what a payload holds.
type Kind uint8

// The kinds of payloads.
const (
	KindWAL     Kind = 1 // WAL from Start on
	KindHistory Kind = 2 // the history file of Timeline, which begins at Start
	KindBase    Kind = 3 // a piece of a base backup that begins at Start
	KindBaseEnd Kind = 4 // the base backup that began at Start is complete
)

// Payload is one decoded payload.
type Payload struct {
	Kind         Kind
	SystemID     uint64 // of the database cluster
	Timeline     wal.Timeline
	SegmentBytes uint32
	Start        wal.Position
	Content      []byte
}

// End returns the position behind a KindWAL payload.
func (p Payload) End() wal.Position { return p.Start + wal.Position(len(p.Content)) }

// Append appends the encoded payload to dst.
func (p Payload) Append(dst []byte) []byte {
	var h [HeaderBytes]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], magic)
	le.PutUint16(h[4:], formatVersion)
	le.PutUint16(h[6:], minReaderVersion)
	h[12] = byte(p.Kind)
	le.PutUint64(h[16:], p.SystemID)
	le.PutUint32(h[24:], uint32(p.Timeline))
	le.PutUint32(h[28:], p.SegmentBytes)
	le.PutUint64(h[32:], uint64(p.Start))
	le.PutUint32(h[40:], uint32(len(p.Content)))
	return append(append(dst, h[:]...), p.Content...)
}

// Decode takes a payload apart; Content points into b. What is no such payload is
// logcore.ErrCorrupt; one of a newer version, or of an unknown kind, is
// logcore.ErrUnsupportedVersion.
func Decode(b []byte) (Payload, error) {
	le := binary.LittleEndian
	if len(b) < HeaderBytes || le.Uint32(b) != magic {
		return Payload{}, fmt.Errorf("%w: payload of %d bytes does not begin as one of PostgreSQL's WAL", logcore.ErrCorrupt, len(b))
	}
	version, minReader, flags := le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint32(b[8:])
	if minReader > formatVersion || flags&^flagsKnown != 0 {
		return Payload{}, fmt.Errorf("%w: postgres-wal payload of version %d, readable from %d on, flags %08X; this build reads %d: use a newer one", logcore.ErrUnsupportedVersion, version, minReader, flags, formatVersion)
	}
	if minReader == 0 || minReader > version {
		return Payload{}, fmt.Errorf("%w: postgres-wal payload of version %d, readable from %d on", logcore.ErrCorrupt, version, minReader)
	}
	p := Payload{Kind: Kind(b[12]), SystemID: le.Uint64(b[16:]), Timeline: wal.Timeline(le.Uint32(b[24:])), SegmentBytes: le.Uint32(b[28:]),
		Start: wal.Position(le.Uint64(b[32:])), Content: b[HeaderBytes:]}
	if p.Kind < KindWAL || p.Kind > KindBaseEnd {
		return Payload{}, fmt.Errorf("%w: postgres-wal payload of kind %d: use a newer build", logcore.ErrUnsupportedVersion, p.Kind)
	}
	s := p.SegmentBytes
	if n := le.Uint32(b[40:]); int(n) != len(p.Content) || n == 0 || b[13]|b[14]|b[15] != 0 || le.Uint32(b[44:]) != 0 || p.Timeline == 0 ||
		s < wal.SegmentBytesMin || s > wal.SegmentBytesMax || s&(s-1) != 0 {
		return Payload{}, fmt.Errorf("%w: postgres-wal payload: kind %d, %d bytes of content, header says %d, timeline %d, segments of %d bytes", logcore.ErrCorrupt, p.Kind, len(p.Content), n, p.Timeline, s)
	}
	return p, nil
}

// BackupEnd returns the backup's last position, which the content of a KindBaseEnd payload is.
func BackupEnd(p Payload) (wal.Position, error) {
	if len(p.Content) != 8 {
		return 0, fmt.Errorf("%w: the end of a base backup with %d bytes", logcore.ErrCorrupt, len(p.Content))
	}
	return wal.Position(binary.LittleEndian.Uint64(p.Content)), nil
}

// Piece is the content of a KindBase payload: Data goes on where the last piece of the
// same archive ended.
type Piece struct {
	Archive string // "base.tar", or a tablespace's number and ".tar"
	Data    []byte
}

// archiveBytesMax bounds an archive's name.
const archiveBytesMax = 64

// Append appends the encoded piece to dst.
func (p Piece) Append(dst []byte) []byte {
	dst = append(append(dst, byte(len(p.Archive))), p.Archive...)
	return append(dst, p.Data...)
}

// DecodePiece is the inverse of Append; Data points into b.
func DecodePiece(b []byte) (Piece, error) {
	if len(b) < 1 || b[0] == 0 || b[0] > archiveBytesMax || len(b) < 1+int(b[0]) {
		return Piece{}, fmt.Errorf("%w: piece of a base backup, of %d bytes", logcore.ErrCorrupt, len(b))
	}
	n := 1 + int(b[0])
	return Piece{string(b[1:n]), b[n:]}, nil
}

// PositionBytes is the length of an engine position.
const PositionBytes = 12

// AppendPosition appends the engine position that goes with an entry: the end of its
// WAL, and the timeline, both big-endian, so that they compare as they rise.
func AppendPosition(dst []byte, t wal.Timeline, end wal.Position) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(end))
	return binary.BigEndian.AppendUint32(dst, uint32(t))
}

// ParsePosition is the inverse of AppendPosition.
func ParsePosition(b []byte) (t wal.Timeline, end wal.Position, err error) {
	if len(b) != PositionBytes {
		return 0, 0, fmt.Errorf("%w: engine position of %d bytes, want %d", logcore.ErrCorrupt, len(b), PositionBytes)
	}
	return wal.Timeline(binary.BigEndian.Uint32(b[8:])), wal.Position(binary.BigEndian.Uint64(b)), nil
}
