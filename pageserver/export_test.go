package pageserver

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore/engine"
)

// A test that asks for checkpoints counts them: however slow the machine is, there is no other.
func init() { firstCheckpointAfter = time.Hour }

// CorruptVersions flips a bit in the newest stored version of a page of a log and in
// every version below it, behind Pebble's back as far as its checksums go.
func CorruptVersions(s *Server, log string, space engine.Space, page uint32) (int, error) {
	l := s.registry.named(log)
	prefix := appendVersionKey(nil, l.id, space, page, pos{})[:versionPrefixBytes]
	return s.mapValues(prefix, func(_, value []byte) []byte {
		value[len(value)/2] ^= 0x10
		return value
	})
}

// DropVersion deletes the version below a page's newest one.
func DropVersion(s *Server, log string, space engine.Space, page uint32) (int, error) {
	l := s.registry.named(log)
	prefix := appendVersionKey(nil, l.id, space, page, pos{})[:versionPrefixBytes]
	seen := 0
	return s.mapValues(prefix, func(_, value []byte) []byte {
		if seen++; seen == 2 {
			return nil
		}
		return value
	})
}

// CorruptSizes flips a bit in every stored length of a space.
func CorruptSizes(s *Server, log string, space engine.Space) (int, error) {
	l := s.registry.named(log)
	key := appendSpaceKey(nil, tagSize, l.id, space, pos{})
	return s.mapValues(key[:len(key)-posBytes], func(_, value []byte) []byte {
		value[0] ^= 1
		return value
	})
}

// mapValues replaces every value under a prefix; nil deletes. It returns their number.
func (s *Server) mapValues(prefix []byte, change func(key, value []byte) []byte) (int, error) {
	s.storeMu.Lock()
	defer s.storeMu.Unlock()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	n := 0
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return n, err
		}
		if value = change(it.Key(), append([]byte(nil), value...)); value == nil {
			err = s.db.Delete(it.Key(), pebble.NoSync)
		} else {
			err = s.db.Set(it.Key(), value, pebble.NoSync)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	s.readers.renew()
	s.cache, s.current = newPageCache(s.opts.PageCacheBytes), newCurrentPages(256)
	return n, it.Error()
}

// LongestChain returns the largest depth of any version in the store.
func LongestChain(s *Server) (int, error) {
	longest := 0
	_, err := s.mapValues([]byte{tagVersion}, func(key, value []byte) []byte {
		h, _, err := decodeVersion(key, value)
		if err != nil {
			panic(fmt.Sprintf("decode %x: %v", key, err))
		}
		longest = max(longest, int(h.depth))
		return value
	})
	return longest, err
}

// OpenParts returns the number of parts of open transactions in the store.
func OpenParts(s *Server) (int, error) {
	return s.mapValues([]byte{tagPart}, func(_, value []byte) []byte { return value })
}

// SealMarker makes the checksum of a format marker right.
func SealMarker(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(b[:16:16], xxh3.Hash(b[:16]))
}

// Versions returns the number of versions of pages in the store.
func Versions(s *Server) (int, error) {
	return s.mapValues([]byte{tagVersion}, func(_, value []byte) []byte { return value })
}

// WriteBeside has every set of keys written by another goroutine than the one that made it,
// however small, until the returned function is called.
func WriteBeside() (restore func()) {
	was := besideBytesMin
	besideBytesMin = 0
	return func() { besideBytesMin = was }
}

// Flushed has a flush end with an error, nil for none.
func Flushed(s *Server, err error) { s.room.flushed(err) }
