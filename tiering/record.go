package tiering

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
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
	recordKeys   recordKind = 4 // a new key pair signs from here on; signed by the old one too
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
	return objectName{o.SegmentFirst, o.First, o.Last, o.kind(), o.Epoch, nameTag(o.Meta)}
}

// nameTag is what tells objects of one range apart in their keys. The same object coded
// otherwise is the same bytes with other fragments, so the code counts too; the usual one
// does without, as it always did.
func nameTag(m erasure.Meta) [8]byte {
	if m.K == erasure.DefaultK && m.M == erasure.DefaultM {
		return [8]byte(m.Digest[:8])
	}
	h := sha256.New()
	h.Write([]byte("logcore fragment name v2"))
	h.Write(m.Digest[:])
	h.Write([]byte{byte(m.K), byte(m.M)})
	return [8]byte(h.Sum(nil)[:8])
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

	targets []string // all targets of the archive: a majority is one of these
	leaving []string // those of targets that are being evacuated: nothing new goes there
	left    []string // names of targets that were removed: not to be used again unasked

	objects    []*object
	retired    []objectName      // rollup only: superseded objects whose fragments may still be there
	dropped    []objectName      // change only: objects that this record takes out of the archive
	tombstones []Tombstone       // what was erased; a change adds, a rollup has all
	settings   map[string]string // a change sets some (empty = unset), a rollup has all
	signers    []signer          // all that ever signed, the last one this record
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

// encodeRecord lays a record out and signs it: an insider at a provider can lose or roll
// back a record, but not write one. A record without signers gets the current key's.
func encodeRecord(ctx context.Context, keys KeyProvider, r *record) ([]byte, error) {
	if len(r.signers) == 0 {
		var err error
		if r.signers, err = newSigner(ctx, keys, r, nil); err != nil {
			return nil, err
		}
	}
	b, err := appendRecordBody(recordFixed(r), r)
	if err != nil {
		return nil, err
	}
	signing := r.signing()
	b = append(b, authEd25519, byte(len(signing)), 0, 0)
	for _, s := range signing {
		b = append(b, s.keyID[:]...)
	}
	total := len(b) + len(signing)*ed25519.SignatureSize + headerSumSize
	if total > recBytesMax {
		return nil, fmt.Errorf("%w: manifest record %d of %d bytes: the limit is %d", logcore.ErrTooLarge, r.number, total, recBytesMax)
	}
	binary.LittleEndian.PutUint32(b[offHeaderLen:], uint32(total)) // the signatures cover it
	covered := signedBytes(b)
	for _, s := range signing {
		private, err := signingKey(ctx, keys, s.keyID)
		if err != nil {
			return nil, fmt.Errorf("signing manifest record %d: %w", r.number, err)
		}
		if publicOf(private) != s.public {
			return nil, fmt.Errorf("%w: signing manifest record %d: the key pair of %v is not the archive's", logcore.ErrInvalid, r.number, s.keyID)
		}
		b = append(b, ed25519.Sign(private, covered)...)
	}
	return finishHeader(b), nil
}

// recordFixed lays out what stands at fixed places.
func recordFixed(r *record) []byte {
	le := binary.LittleEndian
	b := append(appendPrelude(nil, recordMagic), make([]byte, recFixedBytes-preludeBytes)...)
	le.PutUint16(b[offVersion:], recordVersion)
	le.PutUint16(b[offMinReader:], recordVersion)
	copy(b[offCluster:], r.cluster[:])
	le.PutUint32(b[offShard:], uint32(r.shard))
	le.PutUint64(b[offRecNumber:], r.number)
	le.PutUint64(b[offRecEpoch:], r.epoch)
	copy(b[offRecPrev:], r.prev[:])
	b[offRecKind] = byte(r.kind)
	le.PutUint64(b[offRecIncarnation:], r.incarnation)
	copy(b[offRecArchiver:], r.archiver[:])
	return b
}

// appendRecordBody appends the counted sections.
func appendRecordBody(b []byte, r *record) ([]byte, error) {
	le := binary.LittleEndian
	b = le.AppendUint16(b, uint16(len(r.targets)+len(r.left)))
	for _, t := range r.targets {
		st := targetActive
		if slices.Contains(r.leaving, t) {
			st = targetLeaving
		}
		b = append(append(append(b, byte(len(t))), t...), st)
	}
	for _, t := range r.left {
		b = append(append(append(b, byte(len(t))), t...), targetLeft)
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
		b = appendObjectName(b, n)
	}
	b = le.AppendUint32(b, uint32(len(r.dropped)))
	for _, n := range r.dropped {
		b = appendObjectName(b, n)
	}
	b = le.AppendUint32(b, uint32(len(r.tombstones)))
	for _, t := range r.tombstones {
		b = append(b, byte(t.Why))
		for _, v := range [...]uint64{uint64(t.Log), uint64(t.First), uint64(t.Last), t.Entries, uint64(t.Bytes), uint64(t.At.UnixMilli())} {
			b = le.AppendUint64(b, v)
		}
	}
	b = le.AppendUint16(b, uint16(len(r.settings)))
	for _, key := range slices.Sorted(maps.Keys(r.settings)) {
		v := r.settings[key]
		if len(key) > settingKeyMax || len(v) > settingValueMax {
			return nil, fmt.Errorf("%w: setting %.40q of the archive: %d and %d bytes, at most %d and %d are kept", logcore.ErrTooLarge, key, len(key), len(v), settingKeyMax, settingValueMax)
		}
		b = append(append(b, byte(len(key))), key...)
		b = append(le.AppendUint16(b, uint16(len(v))), v...)
	}
	b = le.AppendUint16(b, uint16(len(r.signers)))
	for _, s := range r.signers {
		b = append(append(b, s.keyID[:]...), s.public[:]...)
		b = append(le.AppendUint64(b, s.since), s.vouch[:]...)
	}
	return b, nil
}

func appendObjectName(b []byte, n objectName) []byte {
	b = append(b, byte(n.kind))
	for _, v := range [...]uint64{uint64(n.segment), uint64(n.first), uint64(n.last), n.epoch} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return append(b, n.digest[:]...)
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

// recordMAC authenticates records of version 1.
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

// parseRecord verifies and decodes a record. Its signatures are always checked, against
// the signers that it lists; keys say whether those are to be trusted (nil trusts any). An
// error wraps logcore.ErrCorrupt, logcore.ErrUnsupportedVersion or what keys returned.
func parseRecord(ctx context.Context, keys KeyProvider, src []byte) (*record, error) {
	b, err := parsePrelude(src, recordMagic, recFixedBytes+2+4+4+recTailBytes, recBytesMax)
	if err != nil {
		return nil, err
	}
	if len(b)+headerSumSize != len(src) {
		return nil, damaged(int64(len(b)), "%d bytes after the record", len(src)-len(b)-headerSumSize)
	}
	if binary.LittleEndian.Uint16(b[offVersion:]) == 1 {
		return parseRecord1(ctx, keys, b)
	}
	r, rest, err := decodeRecord(b, recordVersion)
	if err != nil {
		return nil, err
	}
	if err := checkSignatures(r, b, rest); err != nil {
		return nil, err
	}
	return r, r.checkSigners(ctx, keys)
}

// parseRecord1 verifies and decodes a record of version 1, whose authenticator only who
// has the master key can check.
func parseRecord1(ctx context.Context, keys KeyProvider, b []byte) (*record, error) {
	const tailBytes = recTailBytes - headerSumSize
	body, tail := b[:len(b)-tailBytes], b[len(b)-tailBytes:]
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
	r, rest, err := decodeRecord(body, 1)
	if err == nil && len(rest) > 0 {
		err = damaged(int64(len(body)-len(rest)), "the parts of the record do not add up to its length")
	}
	return r, err
}

// checkSignatures checks what stands behind the sections: who signed, and that they did.
func checkSignatures(r *record, b, rest []byte) error {
	at := int64(len(b) - len(rest))
	if len(rest) < 4 {
		return damaged(at, "the parts of the record do not add up to its length")
	}
	if rest[0] != authEd25519 {
		return fmt.Errorf("%w: manifest record with authenticator scheme %d", logcore.ErrUnsupportedVersion, rest[0])
	}
	signing := r.signing()
	n := len(signing)
	if int(rest[1]) != n || rest[2] != 0 || rest[3] != 0 || len(rest) != 4+n*(8+ed25519.SignatureSize) {
		return damaged(at, "%d signatures in %d bytes: want %d", rest[1], len(rest), n)
	}
	ids, signatures := rest[4:4+8*n], rest[4+8*n:]
	covered := signedBytes(b[:len(b)-len(signatures)])
	for i, s := range signing {
		if KeyID(ids[8*i:]) != s.keyID || !ed25519.Verify(s.public[:], covered, signatures[i*ed25519.SignatureSize:][:ed25519.SignatureSize]) {
			return damaged(int64(len(b)-len(signatures)), "the record is not authentic: it was not signed with key %v", s.keyID)
		}
	}
	return nil
}
