package pageserver

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// The layout of the version store; see FORMAT.md. Keys are big-endian so that they
// sort, values little-endian.
const (
	markerMagic            = "LCPSTORE"
	markerFormatVersion    = 2
	markerMinReaderVersion = 2
	// markerOldestVersion is the oldest version that this build reads. What is older is
	// derived data all the same, and is built again.
	markerOldestVersion = 2
	markerKnownFlags    = 0
	markerBytes         = 24

	tagState   = 'i'
	tagVersion = 'v'
	tagSize    = 's'
	tagCut     = 'x'
	tagCommit  = 'c'
	tagPart    = 'o'

	spaceBytes         = 8 + 8
	versionPrefixBytes = 1 + 8 + spaceBytes + 4
	posBytes           = 8 + 4
	checksumBytes      = 8
	versionHeaderBytes = 12
	baseBytes          = 12 // follows the header of a delta
	rangeHeaderBytes   = 4
)

// pos is a place in a log's history: the LSN at which an effect becomes visible and,
// inside one transaction, the number of the entry it came with.
type pos struct {
	lsn logcore.LSN
	seq uint32
}

// endOf is the last pos of an LSN: what a reader at that LSN sees.
func endOf(lsn logcore.LSN) pos { return pos{lsn, math.MaxUint32} }

// before is the pos right before p.
func (p pos) before() pos {
	if p.seq > 0 {
		return pos{p.lsn, p.seq - 1}
	}
	return endOf(p.lsn - 1)
}

func (p pos) less(q pos) bool { return p.lsn < q.lsn || p.lsn == q.lsn && p.seq < q.seq }

func (p pos) min(q pos) pos {
	if q.less(p) {
		return q
	}
	return p
}

// appendPos writes p so that later places sort first.
func appendPos(dst []byte, p pos) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ^uint64(p.lsn))
	return binary.BigEndian.AppendUint32(dst, ^p.seq)
}

func decodePos(src []byte) pos {
	return pos{logcore.LSN(^binary.BigEndian.Uint64(src)), ^binary.BigEndian.Uint32(src[8:])}
}

func appendLogKey(dst []byte, tag byte, log logcore.LogID) []byte {
	return binary.BigEndian.AppendUint64(append(dst, tag), uint64(log))
}

func appendSpace(dst []byte, space engine.Space) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, space.Hi), space.Lo)
}

func decodeSpace(src []byte) engine.Space {
	return engine.Space{Hi: binary.BigEndian.Uint64(src), Lo: binary.BigEndian.Uint64(src[8:])}
}

func appendSpaceKey(dst []byte, tag byte, log logcore.LogID, space engine.Space, p pos) []byte {
	return appendPos(appendSpace(appendLogKey(dst, tag, log), space), p)
}

func appendVersionKey(dst []byte, log logcore.LogID, space engine.Space, page uint32, p pos) []byte {
	dst = appendSpace(appendLogKey(dst, tagVersion, log), space)
	return appendPos(binary.BigEndian.AppendUint32(dst, page), p)
}

func appendCommitKey(dst []byte, log logcore.LogID, lsn logcore.LSN) []byte {
	return binary.BigEndian.AppendUint64(appendLogKey(dst, tagCommit, log), uint64(lsn))
}

func appendPartKey(dst []byte, log logcore.LogID, tx logcore.TxID, lsn logcore.LSN) []byte {
	return binary.BigEndian.AppendUint64(append(appendLogKey(dst, tagPart, log), tx[:]...), uint64(lsn))
}

// seal appends the checksum of value under key: bound to the key, so that a value
// found in another's place does not pass either.
func seal(key, value []byte) []byte {
	return binary.LittleEndian.AppendUint64(value, xxh3.HashSeed(value, xxh3.Hash(key)))
}

// unseal returns the value without its checksum, or an error that wraps
// logcore.ErrCorrupt. want is the exact length without the checksum, or -1.
func unseal(key, sealed []byte, want int) ([]byte, error) {
	if len(sealed) < checksumBytes {
		return nil, corruptValue(key, "value of %d bytes is shorter than its checksum", len(sealed))
	}
	value := sealed[: len(sealed)-checksumBytes : len(sealed)-checksumBytes]
	if binary.LittleEndian.Uint64(sealed[len(value):]) != xxh3.HashSeed(value, xxh3.Hash(key)) {
		return nil, corruptValue(key, "checksum mismatch")
	}
	if want >= 0 && len(value) != want {
		return nil, corruptValue(key, "value of %d bytes, want %d", len(value), want)
	}
	return value, nil
}

func corruptValue(key []byte, format string, args ...any) error {
	e := &logcore.CorruptionError{Place: "page store", Object: fmt.Sprintf("key %x", key), Offset: -1, Reason: fmt.Sprintf(format, args...)}
	if len(key) == versionPrefixBytes+posBytes && key[0] == tagVersion {
		e.LSN = decodePos(key[versionPrefixBytes:]).lsn
	}
	return e
}

type versionKind uint8

const (
	kindImage versionKind = 1
	kindDelta versionKind = 2
)

// versionHeader begins the value of a version.
type versionHeader struct {
	kind       versionKind
	depth      uint16 // deltas since the image, this one included; 0 for an image
	chainBytes uint32 // bytes of their bodies
	pageSize   uint32
	base       pos // delta: the version it changes
}

func appendVersionHeader(dst []byte, h versionHeader) []byte {
	dst = append(dst, byte(h.kind), 0)
	dst = binary.LittleEndian.AppendUint16(dst, h.depth)
	dst = binary.LittleEndian.AppendUint32(dst, h.chainBytes)
	dst = binary.LittleEndian.AppendUint32(dst, h.pageSize)
	if h.kind == kindDelta {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(h.base.lsn))
		dst = binary.LittleEndian.AppendUint32(dst, h.base.seq)
	}
	return dst
}

func appendRanges(dst []byte, ranges []engine.Range) []byte {
	for _, g := range ranges {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(g.Offset))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(g.Data)))
		dst = append(dst, g.Data...)
	}
	return dst
}

func rangesBytes(ranges []engine.Range) int {
	n := 0
	for _, g := range ranges {
		n += rangeHeaderBytes + len(g.Data)
	}
	return n
}

// decodeVersion verifies a sealed value and returns its header and body; the body
// points into sealed.
func decodeVersion(key, sealed []byte) (versionHeader, []byte, error) {
	var h versionHeader
	value, err := unseal(key, sealed, -1)
	if err != nil {
		return h, nil, err
	}
	if len(value) < versionHeaderBytes {
		return h, nil, corruptValue(key, "version of %d bytes is shorter than its header", len(value))
	}
	if value[1] != 0 {
		return h, nil, fmt.Errorf("%w: page version with flags %#x: upgrade, or remove the page server's directory to build it again", logcore.ErrUnsupportedVersion, value[1])
	}
	h.kind = versionKind(value[0])
	h.depth = binary.LittleEndian.Uint16(value[2:])
	h.chainBytes = binary.LittleEndian.Uint32(value[4:])
	h.pageSize = binary.LittleEndian.Uint32(value[8:])
	body := value[versionHeaderBytes:]
	if h.pageSize == 0 || h.pageSize > engine.PageSizeMax {
		return h, nil, corruptValue(key, "page size %d", h.pageSize)
	}
	switch {
	case h.kind == kindImage && len(body) == int(h.pageSize) && h.depth == 0:
	case h.kind == kindDelta && h.depth > 0 && len(body) >= baseBytes:
		h.base = pos{logcore.LSN(binary.LittleEndian.Uint64(body)), binary.LittleEndian.Uint32(body[8:])}
		body = body[baseBytes:]
		if err := checkRanges(key, body, h.pageSize); err != nil {
			return h, nil, err
		}
	default:
		return h, nil, corruptValue(key, "kind %d, depth %d, body of %d bytes for a page of %d", h.kind, h.depth, len(body), h.pageSize)
	}
	return h, body, nil
}

// checkRanges makes sure that applyBody stays inside its bounds. Ranges of a stored
// delta may overlap: it can be the sum of several records of one transaction.
func checkRanges(key, body []byte, pageSize uint32) error {
	for at := 0; at < len(body); {
		if len(body)-at < rangeHeaderBytes {
			return corruptValue(key, "range header cut at %d", at)
		}
		offset, n := int(binary.LittleEndian.Uint16(body[at:])), int(binary.LittleEndian.Uint16(body[at+2:]))
		at += rangeHeaderBytes + n
		if n == 0 || at > len(body) || offset+n > int(pageSize) {
			return corruptValue(key, "range [%d,+%d) leaves the page or the value", offset, n)
		}
	}
	return nil
}

// applyBody applies the body of a delta that decodeVersion accepted.
func applyBody(page, body []byte) {
	for len(body) > 0 {
		offset, n := int(binary.LittleEndian.Uint16(body)), int(binary.LittleEndian.Uint16(body[2:]))
		copy(page[offset:], body[rangeHeaderBytes:rangeHeaderBytes+n])
		body = body[rangeHeaderBytes+n:]
	}
}
