package segment

import (
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
)

// Header is the first block of a segment file. It is written once, synced before
// the first frame, and never changed while the segment lives.
type Header struct {
	ID       ID
	Prev     uint32 // checksum of the entry before First, 0 when there is none
	PrevTerm uint64 // its term, 0 when there is none or when it is not known
}

// Start is where reading the segment begins.
func (h Header) Start() Point { return Point{LSN: h.ID.First, Offset: FramesOffset, Prev: h.Prev} }

// Append appends the header block.
func (h Header) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, BlockBytes)...)
	b := dst[start:]
	putPreamble(b, headerMagic, BlockBytes)
	le.PutUint32(b[hdrShard:], uint32(h.ID.Shard))
	le.PutUint32(b[hdrPrev:], h.Prev)
	le.PutUint64(b[hdrFirst:], uint64(h.ID.First))
	le.PutUint64(b[hdrPrevTerm:], h.PrevTerm)
	le.PutUint32(b[blockCRC:], crc32.Checksum(b[:blockCRC], castagnoli))
	return dst
}

// DecodeHeader checks and decodes a header block. The error wraps
// logcore.ErrCorrupt or logcore.ErrUnsupportedVersion.
func DecodeHeader(b []byte) (Header, error) {
	var h Header
	if err := checkBlock(b, "segment header", headerMagic, headerFlagsKnown); err != nil {
		return h, err
	}
	if !allZero(b[hdrKeyID:blockCRC]) {
		return h, fmt.Errorf("%w: segment header uses fields (key, cipher or later ones) that this build does not know: use a newer build", logcore.ErrUnsupportedVersion)
	}
	h.ID = ID{Shard: logcore.ShardID(le.Uint32(b[hdrShard:])), First: logcore.LSN(le.Uint64(b[hdrFirst:]))}
	h.Prev = le.Uint32(b[hdrPrev:])
	h.PrevTerm = le.Uint64(b[hdrPrevTerm:])
	if h.ID.First == 0 {
		return h, damage("header: first LSN is 0")
	}
	return h, nil
}
