package pageserver

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
)

// addTo adds the set to a batch of the store, the versions in the order of their keys: of
// a page the newest first.
func (b *writeSet) addTo(batch *pebble.Batch, log logcore.LogID) error {
	for _, op := range b.others {
		key, value := b.data[op.offset:op.offset+op.key], b.data[op.offset+op.key:op.offset+op.key+op.value]
		var err error
		if op.removes {
			err = batch.DeleteRange(key, value, nil)
		} else {
			err = batch.Set(key, value, nil)
		}
		if err != nil {
			return err
		}
	}
	if err := b.addCommits(batch, log); err != nil {
		return err
	}
	if err := b.addStates(batch, log); err != nil {
		return err
	}
	slices.SortFunc(b.versions, func(v, w versionOp) int {
		if v.page != w.page {
			return cmp.Compare(v.page, w.page)
		}
		return cmp.Compare(w.offset, v.offset)
	})
	for i := 0; i < len(b.versions); {
		n := 1
		for b.versions[i+n-1].joins {
			n++
		}
		if err := b.addVersion(batch, b.versions[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

const versionKeyBytes = versionPrefixBytes + posBytes

// addVersion adds a version and the changes that joined it, which come before it, the last first.
func (b *writeSet) addVersion(batch *pebble.Batch, ops []versionOp) error {
	joined, v := ops[:len(ops)-1], ops[len(ops)-1]
	key := b.data[v.offset : v.offset+versionKeyBytes]
	value := b.data[v.offset+versionKeyBytes : v.offset+versionKeyBytes+v.value]
	if len(joined) > 0 {
		value = b.run(key, value, joined)
	}
	return setSealed(batch, key, value)
}

// run returns the value of a version with the changes that joined it, the last first; valid
// until the next call.
func (b *writeSet) run(key, value []byte, joined []versionOp) []byte {
	kind := versionKind(value[0])
	from := versionHeaderBytes
	if flags := value[1]; flags&flagImage != 0 {
		from += int(binary.LittleEndian.Uint32(value[8:]))
	} else if flags == 0 {
		from += baseBytes
	}
	out := append(b.value[:0], value[:from]...)
	out[0] = byte(kindRun)
	binary.LittleEndian.PutUint32(out[4:], joined[0].chainBytes)
	at := decodePos(key[versionPrefixBytes:])
	steps := value[from:]
	if kind == kindDelta {
		out = appendChange(out, at, at, stepHeaderBytes+len(steps))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(steps))|stepRanges)
	} else {
		out = appendChange(out, at, at, len(steps))
	}
	out = append(out, steps...)
	for _, op := range slices.Backward(joined) {
		out = appendChange(out, at, op.at, int(op.value))
		out = append(out, b.data[op.offset:op.offset+op.value]...)
		at = op.at
	}
	b.value = out
	return out
}

// setSealed adds a key and its value with the checksum, which goes nowhere else before.
func setSealed(batch *pebble.Batch, key, value []byte) error {
	op := batch.SetDeferred(len(key), len(value)+checksumBytes)
	copy(op.Key, key)
	n := copy(op.Value, value)
	binary.LittleEndian.PutUint64(op.Value[n:], checksumOf(key, value))
	return op.Finish()
}

// addCommits adds the places at which the log became visible, many to a key.
func (b *writeSet) addCommits(batch *pebble.Batch, log logcore.LogID) error {
	for group := range slices.Chunk(b.commits, commitsMax) {
		key := appendCommitKey(nil, log, group[0].lsn)
		b.value = appendCommits(b.value[:0], group)
		if err := setSealed(batch, key, b.value); err != nil {
			return err
		}
	}
	return nil
}

// addStates adds the decoder's states, each as what changed since the one before.
func (b *writeSet) addStates(batch *pebble.Batch, log logcore.LogID) error {
	for i := 0; i < len(b.states); {
		first := b.states[i]
		value := appendDecoderState(b.value[:0], first.state, 0)
		n := 1
		for ; i+n < len(b.states) && b.states[i+n].joins && n < statesMax && len(value) < decoderChunkBytes; n++ {
			before, next := b.states[i+n-1], b.states[i+n]
			value = appendStateChange(value, before.at, next.at, before.state, next.state)
		}
		if n > 1 {
			binary.LittleEndian.PutUint32(value, uint32(len(first.state))|stateRun)
		}
		b.value = value
		if err := setSealed(batch, appendDecoderKey(nil, log, 0, first.at), value); err != nil {
			return err
		}
		i += n
	}
	return nil
}
