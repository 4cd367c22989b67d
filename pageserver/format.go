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
	markerFormatVersion    = 3
	markerMinReaderVersion = 3
	// markerOldestVersion is the oldest version that this build reads, and goes on with as
	// its own. What is older is derived data all the same, and is built again.
	markerOldestVersion = 2
	markerKnownFlags    = 0
	markerBytes         = 24

	tagState   = 'i'
	tagVersion = 'v'
	tagSize    = 's'
	tagCut     = 'x'
	tagCommit  = 'c'
	tagPart    = 'o'
	tagObject  = 'k'
	tagDecoder = 'd'
	tagSpilled = 'p'

	spaceBytes         = 8 + 8
	versionPrefixBytes = spacePrefixBytes + 4
	posBytes           = 8 + 4
	checksumBytes      = 8
	logPrefixBytes     = 1 + 8
	spacePrefixBytes   = logPrefixBytes + spaceBytes
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

// Objects have keys of any length and content, so a key ends with a mark, and its
// zeros are escaped: no key begins with another one, mark included, and order is kept.
const (
	objectZero = 0xff // after a zero: a zero of the key
	objectMark = 0x01 // after a zero: the end of the key
)

// appendObjectPrefix writes what every object key that begins with prefix begins with.
func appendObjectPrefix(dst []byte, log logcore.LogID, prefix []byte) []byte {
	dst = appendLogKey(dst, tagObject, log)
	for _, c := range prefix {
		if dst = append(dst, c); c == 0 {
			dst = append(dst, objectZero)
		}
	}
	return dst
}

func appendObjectKey(dst []byte, log logcore.LogID, key []byte, p pos) []byte {
	return appendPos(append(appendObjectPrefix(dst, log, key), 0, objectMark), p)
}

// objectPrefixEnd returns where the mark of an object key ends, len(key) when it has none.
func objectPrefixEnd(key []byte) int {
	for i := logPrefixBytes; i+1 < len(key); i++ {
		if key[i] == 0 {
			if key[i+1] == objectMark {
				return i + 2
			}
			i++
		}
	}
	return len(key)
}

// decodeObjectKey returns the object's own key, or false when the key isn't well formed.
func decodeObjectKey(key []byte) ([]byte, bool) {
	end := objectPrefixEnd(key)
	if len(key) != end+posBytes {
		return nil, false
	}
	object := make([]byte, 0, end)
	for i := logPrefixBytes; i < end-2; i++ {
		object = append(object, key[i])
		if key[i] == 0 {
			i++
		}
	}
	return object, true
}

func appendDecoderKey(dst []byte, log logcore.LogID, chunk uint32, p pos) []byte {
	return appendPos(binary.BigEndian.AppendUint32(appendLogKey(dst, tagDecoder, log), chunk), p)
}

// decoderKeyLog is the log of a key of a decoder's state.
func decoderKeyLog(key []byte) logcore.LogID {
	return logcore.LogID(binary.BigEndian.Uint64(key[1:]))
}

// keyPrefixBytes returns how much of a key its bloom filter holds: what stands before
// the place. Keys without a place, and bounds that are no whole keys, are all prefix.
func keyPrefixBytes(key []byte) int {
	if len(key) < logPrefixBytes {
		return len(key)
	}
	switch key[0] {
	case tagVersion:
		return min(len(key), versionPrefixBytes)
	case tagSize, tagCut:
		return min(len(key), spacePrefixBytes)
	case tagDecoder:
		return min(len(key), logPrefixBytes+4)
	case tagObject:
		return objectPrefixEnd(key)
	}
	return len(key)
}

// seal appends the checksum of value under key: bound to the key, so that a value
// found in another's place does not pass either.
func seal(key, value []byte) []byte {
	return binary.LittleEndian.AppendUint64(value, checksumOf(key, value))
}

func checksumOf(key, value []byte) uint64 { return xxh3.HashSeed(value, xxh3.Hash(key)) }

// unseal returns the value without its checksum, or an error that wraps
// logcore.ErrCorrupt. want is the exact length without the checksum, or -1.
func unseal(key, sealed []byte, want int) ([]byte, error) {
	if len(sealed) < checksumBytes {
		return nil, corruptValue(key, "value of %d bytes is shorter than its checksum", len(sealed))
	}
	value := sealed[: len(sealed)-checksumBytes : len(sealed)-checksumBytes]
	if binary.LittleEndian.Uint64(sealed[len(value):]) != checksumOf(key, value) {
		return nil, corruptValue(key, "checksum mismatch")
	}
	if want >= 0 && len(value) != want {
		return nil, corruptValue(key, "value of %d bytes, want %d", len(value), want)
	}
	return value, nil
}

func corruptValue(key []byte, format string, args ...any) error {
	e := &logcore.CorruptionError{Place: "page store", Object: fmt.Sprintf("key %x", key), Offset: -1, Reason: fmt.Sprintf(format, args...)}
	if n := keyPrefixBytes(key); len(key) == n+posBytes {
		e.LSN = decodePos(key[n:]).lsn
	}
	return e
}
