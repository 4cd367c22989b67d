package tiering

import (
	"encoding/binary"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// cursor reads fields and remembers whether it ran out of bytes.
type cursor struct {
	b     []byte
	at    int64
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b) {
		c.short = true
		return make([]byte, min(n, 64))
	}
	out := c.b[:n]
	c.b, c.at = c.b[n:], c.at+int64(n)
	return out
}

func (c *cursor) u8() uint8   { return c.take(1)[0] }
func (c *cursor) u16() uint16 { return binary.LittleEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }

// count reads the number of entries that follow and bounds it by what they need.
func (c *cursor) count(n uint64, entryMin int) int {
	if n*uint64(entryMin) > uint64(len(c.b)) {
		c.short = true
		return 0
	}
	return int(n)
}

// decodeRecord decodes the fixed part and the sections, and returns what follows them.
func decodeRecord(b []byte, version int) (*record, []byte, error) {
	le := binary.LittleEndian
	r := &record{cluster: [16]byte(b[offCluster:]), shard: logcore.ShardID(le.Uint32(b[offShard:])),
		number: le.Uint64(b[offRecNumber:]), epoch: le.Uint64(b[offRecEpoch:]), prev: [32]byte(b[offRecPrev:]), kind: recordKind(b[offRecKind]),
		incarnation: le.Uint64(b[offRecIncarnation:]), archiver: [16]byte(b[offRecArchiver:])}
	c := &cursor{b: b[recFixedBytes:], at: recFixedBytes}
	if err := decodeTargets(c, r, version); err != nil {
		return nil, nil, err
	}
	for range c.count(uint64(c.u32()), objectEntryBytes) {
		o, err := decodeObjectEntry(c, r)
		if err != nil {
			return nil, nil, err
		}
		r.objects = append(r.objects, o)
	}
	r.retired = decodeObjectNames(c)
	if version > 1 {
		r.dropped = decodeObjectNames(c)
		if err := decodeSections2(c, r); err != nil {
			return nil, nil, err
		}
	}
	if c.short {
		return nil, nil, damaged(c.at, "the parts of the record do not add up to its length")
	}
	return r, c.b, r.validate(version)
}

// validate checks what a record of its kind may hold.
func (r *record) validate(version int) error {
	switch {
	case r.kind < recordChange || r.kind > recordKeys || r.kind == recordKeys && version == 1:
		return damaged(offRecKind, "record kind %d", r.kind)
	case (r.kind == recordClaim) != (r.archiver != [16]byte{}):
		return damaged(offRecArchiver, "archiver %x in a record of kind %d", r.archiver, r.kind)
	case r.epoch == 0 || r.number == 0 && r.kind != recordClaim || r.kind != recordRollup && len(r.retired) > 0 || r.kind != recordChange && len(r.dropped) > 0:
		return damaged(offRecNumber, "record number %d, epoch %d, kind %d", r.number, r.epoch, r.kind)
	case version > 1 && len(r.signers) == 0, r.kind == recordKeys && len(r.signers) < 2:
		return damaged(-1, "a record of kind %d with %d signers", r.kind, len(r.signers))
	}
	return nil
}

func decodeTargets(c *cursor, r *record, version int) error {
	for range c.count(uint64(c.u16()), 1) {
		name := string(c.take(int(c.u8())))
		if !c.short && !validTargetName(name) {
			return damaged(c.at, "target name %q", name)
		}
		st := targetActive
		if version > 1 {
			st = c.u8()
		}
		switch {
		case c.short:
			return nil // the caller says so
		case st == targetLeft:
			r.left = append(r.left, name)
		case (st == targetActive || st == targetLeaving) && len(r.left) == 0:
			r.targets = append(r.targets, name)
			if st == targetLeaving {
				r.leaving = append(r.leaving, name)
			}
		default:
			return damaged(c.at, "target %s in state %d", name, st)
		}
	}
	if len(r.targets) > targetsMax || len(r.left) > leftMax {
		return damaged(recFixedBytes, "%d targets and %d former ones", len(r.targets), len(r.left))
	}
	return nil
}

func decodeObjectNames(c *cursor) (names []objectName) {
	for range c.count(uint64(c.u32()), retiredEntryBytes) {
		n := objectName{kind: Kind(c.u8()), segment: logcore.LSN(c.u64()), first: logcore.LSN(c.u64()), last: logcore.LSN(c.u64()), epoch: c.u64()}
		n.digest = [8]byte(c.take(8))
		names = append(names, n)
	}
	return names
}

// decodeSections2 decodes the sections that version 2 added.
func decodeSections2(c *cursor, r *record) error {
	for range c.count(uint64(c.u32()), tombstoneBytes) {
		t := Tombstone{Why: TombstoneReason(c.u8()), Log: logcore.LogID(c.u64()), First: logcore.LSN(c.u64()), Last: logcore.LSN(c.u64()), Entries: c.u64(), Bytes: int64(c.u64())}
		t.At = time.UnixMilli(int64(c.u64())).UTC()
		if !c.short && (t.First > t.Last || t.Bytes < 0) {
			return damaged(c.at, "tombstone of [%d,%d], %d bytes", t.First, t.Last, t.Bytes)
		}
		r.tombstones = append(r.tombstones, t)
	}
	if n := c.count(uint64(c.u16()), 3); n > 0 {
		r.settings = make(map[string]string, n)
		for range n {
			key := string(c.take(int(c.u8())))
			value := string(c.take(int(c.u16())))
			if _, twice := r.settings[key]; twice || key == "" || len(value) > settingValueMax {
				return damaged(c.at, "setting %.40q", key)
			}
			r.settings[key] = value
		}
	}
	for range c.count(uint64(c.u16()), signerBytes) {
		s := signer{keyID: KeyID(c.take(8)), public: PublicKey(c.take(32)), since: c.u64()}
		s.vouch = [64]byte(c.take(64))
		r.signers = append(r.signers, s)
	}
	return nil
}

func decodeObjectEntry(c *cursor, r *record) (*object, error) {
	at := c.at
	o := &object{Meta: erasure.Meta{Cluster: r.cluster, Shard: r.shard, Kind: c.u8()}}
	o.level, o.K, o.M, o.final = c.u8(), int(c.u8()), int(c.u8()), c.u8() == 1
	o.Version = max(1, int(c.u8())) // 0 of before there were two
	o.SegmentFirst, o.First, o.Last, o.Epoch = logcore.LSN(c.u64()), logcore.LSN(c.u64()), logcore.LSN(c.u64()), c.u64()
	o.firstTime, o.lastTime = logcore.HLC(c.u64()), logcore.HLC(c.u64())
	o.prev, o.sum = c.u32(), c.u32()
	o.rawBytes, o.Length, o.BlockBytes = int64(c.u64()), int64(c.u64()), int(c.u32())
	o.Digest = [32]byte(c.take(32))
	o.KeyID = [8]byte(c.take(8))
	if c.short {
		return nil, damaged(at, "an object entry is cut short")
	}
	o.Label = o.label()
	if err := o.Meta.Validate(); err != nil {
		return nil, damaged(at, "object entry: %v", err)
	}
	if o.kind() != KindTail && o.kind() != KindSealed || o.rawBytes < 1 || o.rawBytes > rawBytesMax {
		return nil, damaged(at, "object entry: kind %d, %d bytes", o.Kind, o.rawBytes)
	}
	o.fragments = make([]fragment, c.count(uint64(o.K+o.M), fragmentBytes))
	for i := range o.fragments {
		t := int(c.u8())
		o.fragments[i].sum = [32]byte(c.take(32))
		if t == targetAbsent {
			continue
		}
		if t >= len(r.targets) {
			return nil, damaged(c.at, "fragment %d is on target %d of %d", i, t, len(r.targets))
		}
		o.fragments[i].target = r.targets[t]
	}
	return o, nil
}
