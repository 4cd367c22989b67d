package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/logcore/logcore"
)

// readAhead recognises a scan by its misses: each begins where the one before ended,
// or a little after it.
type readAhead struct {
	end    uint32 // one past the last page fetched
	window uint32 // pages fetched at the last miss
}

// next returns how many pages to fetch at a miss of page: one at random places, twice
// as many as before in a scan, at most PagesMax.
func (r *readAhead) next(page uint32) uint32 {
	if r.window > 0 && page >= r.end && page-r.end <= r.window {
		r.window = min(2*r.window, PagesMax)
	} else {
		r.window = 1
	}
	r.end = page + min(r.window, math.MaxUint32-page)
	return r.window
}

// fetchPage gets a page of v from the page server into the cache and returns it; with
// it come the pages that a scan will want next.
func (db *Database) fetchPage(ctx context.Context, v *view, page uint32, ahead *readAhead) ([]byte, error) {
	wanted := []uint32{page}
	end := min(page+min(ahead.next(page), math.MaxUint32-page), v.pages)
	for next := page + 1; next < end; next++ {
		if !v.cache.has(v.version, next) {
			wanted = append(wanted, next)
		}
	}
	got, err := db.fetch(ctx, v.snapshot, wanted)
	if err != nil {
		return nil, err
	}
	// The one asked for goes in last, so that a small cache keeps it.
	for i := len(wanted) - 1; i >= 0; i-- {
		v.cache.put(v.version, wanted[i], got[i])
	}
	return got[0], nil
}

// fetch asks the page server for pages of a snapshot; a page that was never written is zeros.
func (db *Database) fetch(ctx context.Context, s snapshot, wanted []uint32) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opts.ReadTimeout)
	defer cancel()
	db.metrics.fetches.Inc()
	db.metrics.fetched.Add(float64(len(wanted)))
	got, incarnation, err := db.opts.Source.Pages(ctx, wanted, s.at, db.unchangedSince(s, wanted))
	if err != nil {
		return nil, fmt.Errorf("sqlite: log %q: page %d (and %d more) at LSN %d: %w", db.opts.Log, wanted[0], len(wanted)-1, s.at, err)
	}
	if err := db.sameLog(ctx, incarnation); err != nil {
		return nil, err
	}
	if len(got) != len(wanted) {
		return nil, fmt.Errorf("%w: sqlite: log %q: asked for %d pages, got %d", logcore.ErrCorrupt, db.opts.Log, len(wanted), len(got))
	}
	for i := range got {
		switch len(got[i]) {
		case int(s.pageSize):
		case 0:
			got[i] = make([]byte, s.pageSize)
		default:
			return nil, fmt.Errorf("%w: sqlite: log %q: page %d at LSN %d has %d bytes, want %d", logcore.ErrCorrupt, db.opts.Log, wanted[i], s.at, len(got[i]), s.pageSize)
		}
	}
	return got, nil
}

// unchangedSince returns an LSN since which none of the pages changed up to s.at, so
// that the page server need not have ingested more. Nothing at all changed after
// s.version; as the only writer, we know it page by page.
func (db *Database) unchangedSince(s snapshot, wanted []uint32) logcore.LSN {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !db.based {
		return s.version
	}
	since := db.writtenFloor
	for _, page := range wanted {
		since = max(since, db.written[page])
	}
	return min(since, s.version)
}
