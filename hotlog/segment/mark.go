package segment

import (
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
)

// State says what a segment file is used for.
type State uint32

// The states of a segment file.
const (
	StateFree   State = 1 // prepared or recycled: holds no entry
	StateOpen   State = 2 // entries are appended
	StateSealed State = 3 // complete, with a footer behind LSN
)

// Mark proves, apart from the frames, how far a segment is durable. Two slots are
// written in turn, so a torn write leaves the mark before. A mark is written
// together with a batch and speaks only of what an earlier sync made durable, so
// it is true whichever parts of the batch reach the disk.
type Mark struct {
	Seq   uint64 // rises with every mark of the file, through all its lives; slot = Seq % 2
	State State
	ID    ID
	LSN   logcore.LSN // proven durable; ID.First-1 = no entry yet
	End   int64       // file offset behind LSN's frame
	Sum   uint32      // checksum of LSN's frame (Header.Prev when there is none)
	Clean bool        // closed in good order: nothing follows End
	Reach int64       // no byte at or behind it has been written in this life of the file
}

// MarkSlotOffset is the file offset of the mark with that sequence number.
func MarkSlotOffset(seq uint64) int64 { return MarkOffset + int64(seq%2)*BlockBytes }

// Append appends the mark block.
func (m Mark) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, zeroBlock[:]...)
	b := dst[start:]
	putPreamble(b, markMagic, BlockBytes)
	le.PutUint64(b[mrkSeq:], m.Seq)
	le.PutUint32(b[mrkShard:], uint32(m.ID.Shard))
	le.PutUint32(b[mrkState:], uint32(m.State))
	le.PutUint64(b[mrkFirst:], uint64(m.ID.First))
	le.PutUint64(b[mrkLSN:], uint64(m.LSN))
	le.PutUint64(b[mrkEnd:], uint64(m.End))
	le.PutUint32(b[mrkSum:], m.Sum)
	if m.Clean {
		le.PutUint32(b[mrkClean:], 1)
	}
	le.PutUint64(b[mrkReach:], uint64(m.Reach))
	le.PutUint32(b[blockCRC:], crc32.Checksum(b[:blockCRC], castagnoli))
	return dst
}

var zeroBlock [BlockBytes]byte

// DecodeMark checks and decodes a mark block. The error wraps logcore.ErrCorrupt
// or logcore.ErrUnsupportedVersion.
func DecodeMark(b []byte) (Mark, error) {
	var m Mark
	if err := checkBlock(b, "segment mark", markMagic, markFlagsKnown); err != nil {
		return m, err
	}
	m = Mark{
		Seq:   le.Uint64(b[mrkSeq:]),
		State: State(le.Uint32(b[mrkState:])),
		ID:    ID{Shard: logcore.ShardID(le.Uint32(b[mrkShard:])), First: logcore.LSN(le.Uint64(b[mrkFirst:]))},
		LSN:   logcore.LSN(le.Uint64(b[mrkLSN:])),
		End:   int64(le.Uint64(b[mrkEnd:])),
		Sum:   le.Uint32(b[mrkSum:]),
		Clean: le.Uint32(b[mrkClean:]) != 0,
		Reach: int64(le.Uint64(b[mrkReach:])),
	}
	if m.State < StateFree || m.State > StateSealed || le.Uint32(b[mrkClean:]) > 1 || !allZero(b[mrkReserved:blockCRC]) {
		return m, fmt.Errorf("%w: segment mark uses a state (%d) or fields that this build does not know: use a newer build", logcore.ErrUnsupportedVersion, m.State)
	}
	return m, m.validate()
}

// validate refuses an intact mark that makes no sense.
func (m Mark) validate() error {
	if m.State == StateFree {
		return nil
	}
	if m.ID.First == 0 || m.LSN+1 < m.ID.First {
		return damage("mark: proves LSN %d in a segment that begins at %d", m.LSN, m.ID.First)
	}
	if m.End < FramesOffset || m.End > SegmentBytesMax || m.Reach < m.End || m.Reach > SegmentBytesMax {
		return damage("mark: end %d, reach %d", m.End, m.Reach)
	}
	return nil
}
