package pageserver

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// spacesCursor walks over the spaces of a log that exist at a place, in order. What a
// branch does not know is its parent's.
type spacesCursor struct {
	owners []ownedSpaces // the log first, then its ancestors
	space  engine.Space
	size   sizeValue
	err    error
}

// ownedSpaces walks over what one log knows of spaces at or before a place, those that
// do not exist any more included.
type ownedSpaces struct {
	owner *logState
	bound pos
	it    *pebble.Iterator
	valid bool
	space engine.Space
	size  sizeValue
}

// spaces returns a cursor on the spaces with hiFrom <= Hi <= hiThrough; it must be closed.
func (r *reader) spaces(l *logState, hiFrom, hiThrough uint64, at pos) (*spacesCursor, error) {
	return r.spacesFrom(l, engine.Space{Hi: hiFrom}, hiThrough, at)
}

// spacesFrom is spaces from one on.
func (r *reader) spacesFrom(l *logState, from engine.Space, hiThrough uint64, at pos) (*spacesCursor, error) {
	c := &spacesCursor{}
	for owner, bound := l, at; owner != nil; owner, bound = owner.parent, bound.min(owner.branch) {
		prefix := appendLogKey(nil, tagSize, owner.id)
		upper := binary.BigEndian.AppendUint64(bytes.Clone(prefix), hiThrough+1)
		if hiThrough+1 == 0 {
			upper = prefixEnd(prefix)
		}
		it, err := r.s.db.NewIter(&pebble.IterOptions{LowerBound: appendSpace(prefix, from), UpperBound: upper})
		if err != nil {
			c.close()
			return nil, err
		}
		o := ownedSpaces{owner: owner, bound: bound, it: it}
		it.First()
		if err := o.settle(); err != nil {
			c.close()
			it.Close()
			return nil, err
		}
		c.owners = append(c.owners, o)
	}
	return c, nil
}

// settle moves from the first place of a space, newest first, to the newest at or before
// the bound; a space without one is passed over.
func (o *ownedSpaces) settle() error {
	for o.it.Valid() {
		key := o.it.Key()
		if len(key) != spacePrefixBytes+posBytes {
			return corruptValue(key, "key of %d bytes, want %d", len(key), spacePrefixBytes+posBytes)
		}
		o.space = decodeSpace(key[logPrefixBytes:])
		if o.bound.less(decodePos(key[spacePrefixBytes:])) {
			o.it.SeekGE(appendSpaceKey(nil, tagSize, o.owner.id, o.space, o.bound))
			if !o.it.Valid() {
				break
			}
			if key = o.it.Key(); decodeSpace(key[logPrefixBytes:]) != o.space {
				continue
			}
		}
		sealed, err := o.it.ValueAndErr()
		if err != nil {
			return err
		}
		o.size, err = decodeSize(o.it.Key(), sealed)
		o.valid = err == nil
		return err
	}
	o.valid = false
	return o.it.Error()
}

// skip moves to the next space.
func (o *ownedSpaces) skip() error {
	end := prefixEnd(appendSpaceKey(nil, tagSize, o.owner.id, o.space, pos{})[:spacePrefixBytes])
	o.it.SeekGE(end)
	return o.settle()
}

// next moves to the next space that exists; false at the end or on an error.
func (c *spacesCursor) next() bool {
	for c.err == nil {
		first := -1
		for i := range c.owners {
			o := &c.owners[i]
			if o.valid && (first < 0 || o.space.Compare(c.owners[first].space) < 0) {
				first = i // of those with the same space the youngest log comes first
			}
		}
		if first < 0 {
			return false
		}
		c.space, c.size = c.owners[first].space, c.owners[first].size
		for i := range c.owners {
			if o := &c.owners[i]; o.valid && o.space == c.space {
				if c.err = o.skip(); c.err != nil {
					return false
				}
			}
		}
		if c.size.pageSize != 0 {
			return true
		}
	}
	return false
}

func (c *spacesCursor) close() {
	for i := range c.owners {
		c.owners[i].it.Close()
	}
}

// newestAt returns the newest value at or before a place, in the log itself or in its
// ancestors, under a key that stands before the place. The value is the iterator's.
func (r *reader) newestAt(l *logState, at pos, key func(dst []byte, owner *logState, bound pos) []byte) (pos, []byte, []byte, bool, error) {
	it, err := r.besideIterator()
	if err != nil {
		return pos{}, nil, nil, false, err
	}
	for owner, bound := l, at; owner != nil; owner, bound = owner.parent, bound.min(owner.branch) {
		r.beside = key(r.beside[:0], owner, bound)
		if it.SeekPrefixGE(r.beside) {
			sealed, err := it.ValueAndErr()
			if err != nil {
				return pos{}, nil, nil, false, err
			}
			k := it.Key()
			if len(k) != len(r.beside) {
				return pos{}, nil, nil, false, corruptValue(k, "key of %d bytes, want %d", len(k), len(r.beside))
			}
			return decodePos(k[len(k)-posBytes:]), k, sealed, true, nil
		}
		if err := it.Error(); err != nil {
			return pos{}, nil, nil, false, err
		}
	}
	return pos{}, nil, nil, false, nil
}

// object returns an object at a place, and the place it dates from.
func (r *reader) object(l *logState, name []byte, at pos) (objectValue, pos, error) {
	since, key, sealed, found, err := r.newestAt(l, at, func(dst []byte, owner *logState, bound pos) []byte {
		return appendObjectKey(dst, owner.id, name, bound)
	})
	if err != nil || !found {
		return objectValue{gone: true}, pos{}, err
	}
	v, err := decodeObject(key, sealed)
	v.data = bytes.Clone(v.data)
	return v, since, err
}

// objectNames returns, in order, at most limit names of objects that begin with prefix
// and come after another one, whether they exist at the place or not.
func (r *reader) objectNames(l *logState, prefix, after []byte, limit int) ([][]byte, error) {
	var names [][]byte
	for owner := l; owner != nil; owner = owner.parent {
		of, err := r.objectNamesOf(owner, prefix, after, limit)
		if err != nil {
			return nil, err
		}
		names = mergeNames(names, of, limit)
	}
	return names, nil
}

func (r *reader) objectNamesOf(owner *logState, prefix, after []byte, limit int) ([][]byte, error) {
	lower := appendObjectPrefix(nil, owner.id, prefix)
	upper := prefixEnd(lower)
	if bytes.Compare(after, prefix) >= 0 {
		lower = prefixEnd(append(appendObjectPrefix(nil, owner.id, after), 0, objectMark))
	}
	it, err := r.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var names [][]byte
	for valid := it.First(); valid && len(names) < limit; {
		name, ok := decodeObjectKey(it.Key())
		if !ok {
			return nil, corruptValue(it.Key(), "not the key of an object")
		}
		names = append(names, name)
		valid = it.SeekGE(prefixEnd(append(appendObjectPrefix(nil, owner.id, name), 0, objectMark)))
	}
	return names, it.Error()
}

// mergeNames merges two ascending lists, at most limit names of them.
func mergeNames(a, b [][]byte, limit int) [][]byte {
	var out [][]byte
	for len(out) < limit && len(a)+len(b) > 0 {
		switch {
		case len(b) == 0:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0:
			out, b = append(out, b[0]), b[1:]
		default:
			order := bytes.Compare(a[0], b[0])
			if order <= 0 {
				out, a = append(out, a[0]), a[1:]
			} else {
				out = append(out, b[0])
			}
			if order >= 0 {
				b = b[1:]
			}
		}
	}
	return out
}

// decoderState returns the decoder's state at a place, nil when it has none.
func (r *reader) decoderState(l *logState, at pos) ([]byte, error) {
	chunk := func(no uint32) (pos, []byte, []byte, bool, error) {
		since, key, sealed, found, err := r.newestAt(l, at, func(dst []byte, owner *logState, bound pos) []byte {
			return appendDecoderKey(dst, owner.id, no, bound)
		})
		if err != nil || !found {
			return pos{}, nil, nil, false, err
		}
		value, err := unseal(key, sealed, -1)
		return since, key, value, err == nil, err
	}
	first, key, head, found, err := chunk(0)
	if err != nil || !found {
		return nil, err
	}
	if len(head) < 4 {
		return nil, corruptValue(key, "decoder state of %d bytes", len(head))
	}
	total := int(binary.LittleEndian.Uint32(head) &^ stateRun)
	run := binary.LittleEndian.Uint32(head)&stateRun != 0
	here := min(total, decoderChunkBytes)
	if total > engine.StateBytesMax || len(head)-4 != here && !run || run && (total > decoderChunkBytes || len(head)-4 < here) {
		return nil, corruptValue(key, "decoder state of %d bytes, %d at hand", total, len(head)-4)
	}
	if run {
		// The branch sees its parent's up to where it begins.
		for owner := l; owner.parent != nil && owner.id != decoderKeyLog(key); owner = owner.parent {
			at = at.min(owner.branch)
		}
		state, err := stateThrough(key, head[4+here:], head[4:4+here], first, at)
		if err != nil || len(state) == 0 {
			return nil, err
		}
		return bytes.Clone(state), nil
	}
	if total == 0 {
		return nil, nil
	}
	state := append(make([]byte, 0, total), head[4:]...)
	for no := uint32(1); len(state) < total; no++ {
		_, _, part, found, err := chunk(no)
		if err != nil {
			return nil, err
		}
		if want := min(total-len(state), decoderChunkBytes); !found || len(part) != want {
			return nil, &logcore.CorruptionError{Place: "page store", Object: "decoder state of log " + l.name(), Offset: -1, Reason: fmt.Sprintf("part %d is missing", no)}
		}
		state = append(state, part...)
	}
	return state, nil
}
