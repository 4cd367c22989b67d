package tiering

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// Kind says what an archived object is. The numbers are durable.
type Kind uint8

// The kinds of object.
const (
	KindTail   Kind = 1 // part of a segment that was open; superseded once the segment is sealed
	KindSealed Kind = 2 // a sealed segment or a part of one
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindTail:
		return "tail"
	case KindSealed:
		return "sealed"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// recordKind says what a manifest record is. The numbers are durable.
type recordKind uint8

const (
	recordChange recordKind = 1 // objects added or placed anew
	recordRollup recordKind = 2 // the whole state: loading begins at the newest one
	recordClaim  recordKind = 3 // not of the chain: the epoch of an archiver that took over
)

// fragment is where one fragment of an object is.
type fragment struct {
	target string   // the target's name, empty = not placed
	sum    [32]byte // SHA-256 of the fragment
}

// object is an archived object as the manifest describes it. Immutable once in a state.
type object struct {
	erasure.Meta             // Kind is a Kind
	level        uint8       // of a tail: how often it was folded from smaller ones
	final        bool        // it ends with the last entry of its sealed segment
	prev, sum    uint32      // as in Span
	firstTime    logcore.HLC // as in Span
	lastTime     logcore.HLC
	rawBytes     int64
	fragments    []fragment // K+M of them
}

func (o *object) kind() Kind { return Kind(o.Kind) }

func (o *object) name() objectName {
	return objectName{o.SegmentFirst, o.First, o.Last, o.kind(), o.Epoch, [8]byte(o.Digest[:8])}
}

// placed counts the fragments that are on a target.
func (o *object) placed() (n int) {
	for _, f := range o.fragments {
		if f.target != "" {
			n++
		}
	}
	return n
}

// record is one record of the manifest.
type record struct {
	cluster [16]byte
	shard   logcore.ShardID
	number  uint64
	epoch   uint64
	prev    [32]byte // SHA-256 of the record before; zero for number 1
	kind    recordKind

	incarnation uint64   // of the hot tier that it was archived from
	archiver    [16]byte // claim only: chosen at random by the archiver, so that no two leave the same claim

	targets []string // all targets of the archive
	objects []*object
	retired []objectName // rollup only: superseded objects whose fragments may still be there
}

func (r *record) name() recordName { return recordName{r.number, r.epoch, r.kind == recordRollup} }

func (r *record) key() string {
	if r.kind == recordClaim {
		return claimKey(r.cluster, r.shard, r.epoch)
	}
	return r.name().key(r.cluster, r.shard)
}

const (
	objectEntryBytes  = 6 + 6*8 + 2*4 + 8 + 8 + 4 + 32 + 8
	fragmentBytes     = 1 + 32
	retiredEntryBytes = 1 + 4*8 + 8
)

// encodeRecord lays a record out and authenticates it under the current key: an
// insider at a provider can lose or roll back a record, but not write one.
func encodeRecord(ctx context.Context, keys KeyProvider, r *record) ([]byte, error) {
	le := binary.LittleEndian
	b := append(appendPrelude(nil, recordMagic), make([]byte, recFixedBytes-preludeBytes)...)
	copy(b[offCluster:], r.cluster[:])
	le.PutUint32(b[offShard:], uint32(r.shard))
	le.PutUint64(b[offRecNumber:], r.number)
	le.PutUint64(b[offRecEpoch:], r.epoch)
	copy(b[offRecPrev:], r.prev[:])
	b[offRecKind] = byte(r.kind)
	le.PutUint64(b[offRecIncarnation:], r.incarnation)
	copy(b[offRecArchiver:], r.archiver[:])
	b = le.AppendUint16(b, uint16(len(r.targets)))
	for _, t := range r.targets {
		b = append(append(b, byte(len(t))), t...)
	}
	b = le.AppendUint32(b, uint32(len(r.objects)))
	for _, o := range r.objects {
		var err error
		if b, err = appendObjectEntry(b, o, r.targets); err != nil {
			return nil, err
		}
	}
	b = le.AppendUint32(b, uint32(len(r.retired)))
	for _, n := range r.retired {
		b = append(b, byte(n.kind))
		for _, v := range [...]uint64{uint64(n.segment), uint64(n.first), uint64(n.last), n.epoch} {
			b = le.AppendUint64(b, v)
		}
		b = append(b, n.digest[:]...)
	}
	if len(b)+recTailBytes > recBytesMax {
		return nil, fmt.Errorf("%w: manifest record %d of %d bytes: the limit is %d", logcore.ErrTooLarge, r.number, len(b), recBytesMax)
	}
	id := keys.Current()
	b = append(b, authHMAC, 0, 0, 0)
	b = append(b, id[:]...)
	le.PutUint32(b[offHeaderLen:], uint32(len(b)+32+headerSumSize)) // the authenticator covers it
	mac, err := recordMAC(ctx, keys, id, b)
	if err != nil {
		return nil, err
	}
	return finishHeader(append(b, mac[:]...)), nil
}

func appendObjectEntry(b []byte, o *object, targets []string) ([]byte, error) {
	le := binary.LittleEndian
	b = append(b, o.Kind, o.level, byte(o.K), byte(o.M), boolByte(o.final), versionByte(o.Version))
	for _, v := range [...]uint64{uint64(o.SegmentFirst), uint64(o.First), uint64(o.Last), o.Epoch, uint64(o.firstTime), uint64(o.lastTime)} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(le.AppendUint32(b, o.prev), o.sum)
	b = le.AppendUint64(b, uint64(o.rawBytes))
	b = le.AppendUint64(b, uint64(o.Length))
	b = le.AppendUint32(b, uint32(o.BlockBytes))
	b = append(append(b, o.Digest[:]...), o.KeyID[:]...)
	for _, f := range o.fragments {
		t := targetAbsent
		if f.target != "" {
			if t = slices.Index(targets, f.target); t < 0 {
				return nil, fmt.Errorf("%w: %s has a fragment on %q, which is no target of the archive", logcore.ErrInvalid, o.describe(), f.target)
			}
		}
		b = append(append(b, byte(t)), f.sum[:]...)
	}
	return b, nil
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// versionByte is the version of an object's fragments in a record: 0 stands for 1, as it
// did before there were others.
func versionByte(version int) byte {
	if version <= 1 {
		return 0
	}
	return byte(version)
}

func recordMAC(ctx context.Context, keys KeyProvider, id KeyID, covered []byte) ([32]byte, error) {
	key, err := keys.Derive(ctx, id, nil, "logcore manifest record v1")
	if err != nil {
		return key, err
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(covered)
	return [32]byte(mac.Sum(nil)), nil
}

// parseRecord verifies and decodes a record. keys nil skips the authenticator. An
// error wraps logcore.ErrCorrupt, logcore.ErrUnsupportedVersion or what keys returned.
func parseRecord(ctx context.Context, keys KeyProvider, src []byte) (*record, error) {
	b, err := parsePrelude(src, recordMagic, recFixedBytes+2+4+4+recTailBytes, recBytesMax)
	if err != nil {
		return nil, err
	}
	if len(b)+headerSumSize != len(src) {
		return nil, damaged(int64(len(b)), "%d bytes after the record", len(src)-len(b)-headerSumSize)
	}
	body, tail := b[:len(b)-(recTailBytes-headerSumSize)], b[len(b)-(recTailBytes-headerSumSize):]
	if tail[0] != authHMAC {
		return nil, fmt.Errorf("%w: manifest record with authenticator scheme %d", logcore.ErrUnsupportedVersion, tail[0])
	}
	if keys != nil {
		mac, err := recordMAC(ctx, keys, KeyID(tail[4:]), b[:len(b)-32])
		if err != nil {
			return nil, err
		}
		if !hmac.Equal(mac[:], tail[12:44]) {
			return nil, damaged(int64(len(b))-32, "the record is not authentic: it was not written with key %v", KeyID(tail[4:]))
		}
	}
	return decodeRecord(body)
}
