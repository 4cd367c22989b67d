package pageserver

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

const (
	heatSampled = 16   // one read of so many is counted
	heatMax     = 8192 // pages counted; when there are more, all counts are halved
	hottestMax  = 1024 // pages whose blocks a checkpoint names
	touchedMax  = 64   // versions of such a page that are looked at
)

// heat counts which pages are read, roughly.
type heat struct {
	mu     sync.Mutex
	counts map[heatID]uint32 // guarded by mu
}

type heatID struct {
	log   logcore.LogID
	space engine.Space
	page  uint32
}

func (h *heat) note(log logcore.LogID, space engine.Space, page uint32) {
	if rand.Uint32()%heatSampled != 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts == nil {
		h.counts = map[heatID]uint32{}
	}
	h.counts[heatID{log, space, page}]++
	for len(h.counts) > heatMax {
		for id, n := range h.counts {
			if n /= 2; n == 0 {
				delete(h.counts, id)
			} else {
				h.counts[id] = n
			}
		}
	}
}

// hottest returns pages, those that are read most first.
func (h *heat) hottest() []heatID {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]heatID, 0, len(h.counts))
	for id := range h.counts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b heatID) int { return int(h.counts[b]) - int(h.counts[a]) })
	return ids[:min(len(ids), hottestMax)]
}

// touch reads what a new page server reads before it has served the given pages.
func touch(db *pebble.DB, pages []heatID) error {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for _, id := range pages {
		newest := pos{^logcore.LSN(0), ^uint32(0)}
		for _, key := range [][]byte{
			appendSpaceKey(nil, tagCut, id.log, id.space, newest),
			appendVersionKey(nil, id.log, id.space, id.page, newest),
			appendSpaceKey(nil, tagSize, id.log, id.space, newest),
		} {
			if err := touchNewest(it, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// touchNewestVersions reads what a reader of the newest version of each page reads.
func touchNewestVersions(db *pebble.DB, pages []heatID) error {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for _, id := range pages {
		if err := touchNewest(it, appendVersionKey(nil, id.log, id.space, id.page, endOfHistory)); err != nil {
			return err
		}
	}
	return nil
}

// touchNewest reads the newest value at a key's prefix, and of a page those below it down
// to its image.
func touchNewest(it *pebble.Iterator, key []byte) error {
	prefix := key[:len(key)-posBytes]
	it.SeekPrefixGE(key)
	for n := 0; n < touchedMax && it.Valid() && bytes.HasPrefix(it.Key(), prefix); n++ {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if key[0] != tagVersion || len(value) > 0 && versionKind(value[0]) == kindImage {
			break
		}
		it.Next()
	}
	return it.Error()
}
