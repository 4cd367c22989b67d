package pageserver

import (
	"context"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

const (
	// ListMax is the most spaces or objects that one answer has.
	ListMax = 4096
	// listBytesMax is the most data of objects that one answer has, the last one aside.
	listBytesMax = 2 << 20
)

// SpaceRange says which spaces to list: those with HiFrom <= Hi <= HiThrough.
type SpaceRange struct {
	HiFrom, HiThrough uint64
	// After, when not nil, leaves out the spaces up to it.
	After *engine.Space
	// Limit is the most spaces to return; 0, or more than ListMax, means ListMax.
	Limit int
}

// SpaceInfo is a space that exists.
type SpaceInfo struct {
	Space           engine.Space
	Pages, PageSize uint32
}

// SpaceList is the answer to ListSpaces, in order. More says that there are others after
// the last one.
type SpaceList struct {
	LSN         logcore.LSN
	Incarnation uint64
	Spaces      []SpaceInfo
	More        bool
}

// ListSpaces returns the spaces of a log or branch that exist as of an LSN. Errors are
// those of GetPages.
func (s *Server) ListSpaces(ctx context.Context, log string, of SpaceRange, at ReadAt) (SpaceList, error) {
	limit := listLimit(of.Limit)
	from, some := of.first()
	var list SpaceList
	var err error
	list.LSN, err = s.read(ctx, log, at.ofPast(), func(r *reader, l *logState, lsn logcore.LSN) error {
		list.Spaces, list.More, list.Incarnation = nil, false, r.incarnation
		if !some {
			return nil
		}
		c, err := r.spacesFrom(l, from, of.HiThrough, endOf(lsn))
		if err != nil {
			return err
		}
		defer c.close()
		for c.next() {
			if list.More = len(list.Spaces) == limit; list.More {
				break
			}
			list.Spaces = append(list.Spaces, SpaceInfo{c.space, c.size.pages, c.size.pageSize})
		}
		return c.err
	})
	return list, err
}

// first returns the first space of the range, false when the range is empty.
func (of SpaceRange) first() (engine.Space, bool) {
	first := engine.Space{Hi: of.HiFrom}
	if of.After != nil && first.Compare(*of.After) <= 0 {
		first = engine.Space{Hi: of.After.Hi, Lo: of.After.Lo + 1}
		if first.Lo == 0 {
			first.Hi++
		}
		if first == (engine.Space{}) {
			return first, false // after the last space there can be
		}
	}
	return first, first.Hi <= of.HiThrough
}

func listLimit(limit int) int {
	if limit <= 0 || limit > ListMax {
		return ListMax
	}
	return limit
}

// Object is a versioned object as of an LSN.
type Object struct {
	Key []byte
	// Data is nil when there is no such object; one without content has an empty, not nil, Data.
	Data []byte
	// Digest is the XXH3-64 of Data.
	Digest uint64
	// LastLSN is the LSN of the last change at or before the LSN read at, its removal
	// included; 0 when it was never there.
	LastLSN logcore.LSN
}

// ObjectList is the answer to GetObject and ListObjects, in order of the keys. More says
// that there are others after the last one.
type ObjectList struct {
	LSN         logcore.LSN
	Incarnation uint64
	Objects     []Object
	More        bool
}

// GetObject returns the object with a key as of an LSN: the list has it alone, with a nil
// Data when it does not exist. Errors are those of GetPages.
func (s *Server) GetObject(ctx context.Context, log string, key []byte, at ReadAt) (ObjectList, error) {
	if len(key) == 0 || len(key) > engine.KeyBytesMax {
		return ObjectList{}, fmt.Errorf("pageserver: %w: a key of %d bytes: want 1 to %d", logcore.ErrInvalid, len(key), engine.KeyBytesMax)
	}
	var list ObjectList
	var err error
	list.LSN, err = s.read(ctx, log, at.ofPast(), func(r *reader, l *logState, lsn logcore.LSN) error {
		o, err := r.objectAt(l, key, lsn)
		list.Objects, list.Incarnation = []Object{o}, r.incarnation
		return err
	})
	return list, err
}

// ListObjects returns the objects whose keys begin with prefix and come after another
// one (nil: all), as of an LSN; limit is as in SpaceRange. Errors are those of GetPages.
func (s *Server) ListObjects(ctx context.Context, log string, prefix, after []byte, limit int, at ReadAt) (ObjectList, error) {
	if len(prefix) > engine.KeyBytesMax || len(after) > engine.KeyBytesMax {
		return ObjectList{}, fmt.Errorf("pageserver: %w: a prefix of %d bytes, after a key of %d: at most %d", logcore.ErrInvalid, len(prefix), len(after), engine.KeyBytesMax)
	}
	var list ObjectList
	var err error
	list.LSN, err = s.read(ctx, log, at.ofPast(), func(r *reader, l *logState, lsn logcore.LSN) error {
		list.Objects, list.More, list.Incarnation = nil, false, r.incarnation
		return r.listObjects(l, prefix, after, listLimit(limit), lsn, &list)
	})
	return list, err
}

// listObjects fills a list up to the limits.
func (r *reader) listObjects(l *logState, prefix, after []byte, limit int, lsn logcore.LSN, list *ObjectList) error {
	size := 0
	for {
		names, err := r.objectNames(l, prefix, after, limit+1)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			o, err := r.objectAt(l, name, lsn)
			if err != nil {
				return err
			}
			after = name
			if o.Data == nil {
				continue
			}
			if list.More = len(list.Objects) == limit || size >= listBytesMax; list.More {
				return nil
			}
			list.Objects = append(list.Objects, o)
			size += len(o.Key) + len(o.Data)
		}
	}
}

func (r *reader) objectAt(l *logState, key []byte, lsn logcore.LSN) (Object, error) {
	v, since, err := r.object(l, key, endOf(lsn))
	if err != nil || v.gone {
		return Object{Key: key, LastLSN: since.lsn}, err
	}
	if v.data == nil {
		v.data = []byte{}
	}
	return Object{key, v.data, xxh3.Hash(v.data), since.lsn}, nil
}
