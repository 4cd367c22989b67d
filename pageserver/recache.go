package pageserver

import (
	"bytes"
	"cmp"
	"context"
	"math/bits"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore/internal/pause"
)

// recacher brings the blocks of pages that were read lately back into the block cache after
// a compaction has written them anew, or a pass over the whole store has pushed them out.
// Pebble's cache knows blocks by their table: a page that is read every minute and lies in a
// table that is rewritten every few minutes would be read from the disk again and again, and
// it is those reads that are the slow ones. What was just written is in the system's cache
// mostly, so that bringing it back costs the disk nothing.
//
// It remembers about as many pages as the block cache can hold: each in the one place that its
// hash says, where the page that was read last displaces another one. It takes a small share of
// one processor; what it does not get to is merely read from the disk.
type recacher struct {
	s     *Server
	kick  chan struct{}
	pages atomic.Uint64 // that were brought back

	mu     sync.Mutex
	places []recentPage // a power of two; made on first use; guarded by mu
	ranges []keyRange   // of tables written since the last turn; guarded by mu
}

// recentPage is a page that was read, and how often it was brought back since.
type recentPage struct {
	id   heatID // zero: none
	idle uint8
}

// keyRange is what a table covers, both ends included.
type keyRange struct{ first, last []byte }

const (
	// recachePageBytes is about what a page takes of the block cache: a block with its image,
	// and one with changes.
	recachePageBytes = 8 << 10
	// recacheIdleMax is how often a page is brought back without being read: then it is forgotten.
	recacheIdleMax = 8
	// recacheRangesMax bounds the tables that wait; with more, the last covers the rest.
	recacheRangesMax = 1024
	// recacheGather is how long tables are gathered, since a compaction writes several.
	recacheGather = 200 * time.Millisecond
	// recachePages is how many pages are touched with one iterator; recacheShare the part of one
	// processor that is taken, as its reciprocal.
	recachePages = 64
	recacheShare = 20
)

func newRecacher(s *Server) *recacher { return &recacher{s: s, kick: make(chan struct{}, 1)} }

// note takes over that a page was read from the store.
func (g *recacher) note(id heatID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.places == nil {
		n := 1 << bits.Len64(uint64(g.s.opts.BlockCacheBytes)/recachePageBytes)
		g.places = make([]recentPage, max(n, 256))
	}
	// Neighbours lie apart, and the places of two spaces have nothing to do with each other.
	const odd = 0x9e3779b97f4a7c15
	h := (((uint64(id.log)*odd+id.space.Hi)*odd+id.space.Lo)*odd + uint64(id.page)) * odd
	p := &g.places[h>>32&uint64(len(g.places)-1)]
	if p.id != id || p.idle != 0 {
		*p = recentPage{id: id}
	}
}

// compacted takes over what a compaction wrote. Pebble waits for it.
func (g *recacher) compacted(info pebble.CompactionInfo) {
	if info.Err != nil || info.Reason == "move" {
		return
	}
	for _, t := range info.Output.Tables {
		g.add(keyRange{t.Smallest.UserKey, t.Largest.UserKey})
	}
}

// all says that any block may be gone.
func (g *recacher) all() { g.add(keyRange{nil, []byte{0xff}}) }

func (g *recacher) add(r keyRange) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.ranges); n == recacheRangesMax {
		last := &g.ranges[n-1]
		if bytes.Compare(r.first, last.first) < 0 {
			last.first = r.first
		}
		if bytes.Compare(r.last, last.last) > 0 {
			last.last = r.last
		}
	} else {
		g.ranges = append(g.ranges, r)
	}
	select {
	case g.kick <- struct{}{}:
	default: // it is awake
	}
}

// take returns the pages in the tables that wait, in the order of their keys.
func (g *recacher) take() []heatID {
	g.mu.Lock()
	defer g.mu.Unlock()
	ranges := g.ranges
	g.ranges = nil
	slices.SortFunc(ranges, func(a, b keyRange) int { return bytes.Compare(a.first, b.first) })
	var merged []keyRange
	for _, r := range ranges {
		if n := len(merged); n > 0 && bytes.Compare(r.first, merged[n-1].last) <= 0 {
			if bytes.Compare(r.last, merged[n-1].last) > 0 {
				merged[n-1].last = r.last
			}
			continue
		}
		merged = append(merged, r)
	}
	var pages []heatID
	var from, to []byte // a page's keys
	for i := range g.places {
		p := &g.places[i]
		if p.id == (heatID{}) {
			continue
		}
		from = appendVersionKey(from[:0], p.id.log, p.id.space, p.id.page, endOfHistory)
		to = appendVersionKey(to[:0], p.id.log, p.id.space, p.id.page, pos{})
		at := sort.Search(len(merged), func(i int) bool { return bytes.Compare(merged[i].last, from) >= 0 })
		if at == len(merged) || bytes.Compare(merged[at].first, to) > 0 {
			continue
		}
		pages = append(pages, p.id)
		if p.idle++; p.idle == recacheIdleMax {
			*p = recentPage{}
		}
	}
	slices.SortFunc(pages, func(a, b heatID) int {
		return cmp.Or(cmp.Compare(a.log, b.log), a.space.Compare(b.space), cmp.Compare(a.page, b.page))
	})
	return pages
}

// run brings blocks back until ctx is done.
func (g *recacher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.kick:
		}
		if !pause.For(ctx, recacheGather) {
			return
		}
		for pages := g.take(); len(pages) > 0; {
			n := min(len(pages), recachePages)
			began := time.Now()
			if err := g.touch(pages[:n]); err != nil {
				g.s.log.Debug("pageserver: pages could not be brought back into the block cache", "err", err)
				break // who reads them is told
			}
			g.pages.Add(uint64(n))
			pages = pages[n:]
			if !pause.For(ctx, (recacheShare-1)*time.Since(began)) {
				return
			}
		}
	}
}

func (g *recacher) touch(pages []heatID) error {
	g.s.storeMu.RLock()
	defer g.s.storeMu.RUnlock()
	if g.s.db == nil {
		return nil
	}
	return touchNewestVersions(g.s.db, pages)
}
