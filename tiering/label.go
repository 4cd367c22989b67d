package tiering

import (
	"encoding/binary"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// label is what the fragments of an object say of it besides what erasure needs: with it
// a fragment's header alone tells all that the manifest's entry does, but where the
// fragments are and their hashes. Fragments of version 1 have none.
func (o *object) label() (l [erasure.LabelBytes]byte) {
	if o.Version == 1 {
		return l
	}
	le := binary.LittleEndian
	l[0], l[1] = o.level, boolByte(o.final)
	le.PutUint32(l[4:], o.prev)
	le.PutUint32(l[8:], o.sum)
	le.PutUint64(l[12:], uint64(o.firstTime))
	le.PutUint64(l[20:], uint64(o.lastTime))
	le.PutUint64(l[28:], uint64(o.rawBytes))
	return l
}

// fromLabel makes an object of what one of its fragments says. Its fragments' hashes are
// not known, and none is placed. ok is false for a fragment of version 1, and for a label
// that this build would not have written.
func fromLabel(m erasure.Meta) (o *object, ok bool) {
	le, l := binary.LittleEndian, m.Label
	o = &object{Meta: m, level: l[0], final: l[1] == 1, prev: le.Uint32(l[4:]), sum: le.Uint32(l[8:]), firstTime: logcore.HLC(le.Uint64(l[12:])),
		lastTime: logcore.HLC(le.Uint64(l[20:])), rawBytes: int64(le.Uint64(l[28:])), fragments: make([]fragment, m.K+m.M)}
	return o, m.Version >= 2 && o.label() == l && o.rawBytes >= 1 && o.rawBytes <= rawBytesMax
}
