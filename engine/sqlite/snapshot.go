package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
)

// snapshot is the database file as of one LSN.
type snapshot struct {
	at       logcore.LSN // what pages are asked for at; 0 = there is nothing yet
	version  logcore.LSN // the log's last visible change at or before at
	pages    uint32
	pageSize uint32
}

func (s snapshot) bytes() int64 { return int64(s.pages) * int64(s.pageSize) }

// view is a snapshot and the cache of its version's pages. Views are immutable; a
// commit makes a new one over the same cache, which it brings up to date while no
// other connection has a lock.
type view struct {
	snapshot
	cache *cache
}

// currentView returns the view that a transaction beginning now reads: the writer's
// own last commit, the pinned one, or the newest that the page server has.
func (db *Database) currentView(ctx context.Context) (*view, error) {
	db.mu.Lock()
	current, based, err := db.view, db.based, db.poison
	db.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case based:
		if err := db.confirm(ctx); err != nil {
			return nil, err
		}
		return current, nil
	case db.pinned:
		return current, nil
	}
	return db.refresh(ctx, current)
}

// refresh moves the view to the newest LSN.
func (db *Database) refresh(ctx context.Context, current *view) (*view, error) {
	fresh, err := db.newest(ctx, current.snapshot)
	if err == nil && fresh.at < current.at {
		// Another page server, further behind than the last one: a process never reads backwards.
		fresh, err = db.sizeAt(ctx, current.at)
	}
	if err != nil {
		return nil, err
	}
	return db.advance(fresh), nil
}

// newest is the snapshot that a transaction beginning now reads; current is the last
// one. A log that does not exist yet is an empty file if this Database may create it.
func (db *Database) newest(ctx context.Context, current snapshot) (snapshot, error) {
	if db.opts.Follow {
		return db.sizeAt(ctx, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, db.opts.ReadTimeout)
	defer cancel()
	end, err := db.end(ctx)
	switch {
	case errors.Is(err, logcore.ErrLogNotFound) && !db.opts.ReadOnly:
		return snapshot{}, nil
	case err != nil:
		return snapshot{}, err
	case end.LSN == 0:
		return snapshot{}, nil
	case end.LSN == current.at:
		return current, nil
	}
	return db.sizeAt(ctx, end.LSN)
}

// sizeAt asks for the file as of an LSN, 0 for the newest that the page server has.
func (db *Database) sizeAt(ctx context.Context, lsn logcore.LSN) (snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opts.ReadTimeout)
	defer cancel()
	size, err := db.opts.Source.Size(ctx, lsn)
	if err != nil {
		return snapshot{}, fmt.Errorf("sqlite: log %q: size at LSN %d: %w", db.opts.Log, lsn, err)
	}
	if err := db.sameLog(ctx, size.Incarnation); err != nil {
		return snapshot{}, err
	}
	s := snapshot{at: size.LSN, version: size.LastLSN, pages: size.Pages, pageSize: size.PageSize}
	if s.pages > 0 && !validPageSize(int64(s.pageSize)) {
		return snapshot{}, fmt.Errorf("%w: sqlite: log %q holds pages of %d bytes, which is no SQLite database", logcore.ErrInvalid, db.opts.Log, s.pageSize)
	}
	return s, nil
}

// advance makes s the current view unless the Database has moved on meanwhile, and
// returns the current view. The cache is kept when nothing changed in the log.
func (db *Database) advance(s snapshot) *view {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.based || s.at < db.view.at {
		return db.view
	}
	db.setView(s)
	return db.view
}

// setView is called with mu held.
func (db *Database) setView(s snapshot) {
	pages := db.view.cache
	if s.version != db.view.version {
		// Whoever still reads the old version keeps its cache until it unlocks.
		pages = newCache(s.version, db.opts.CacheBytes)
		db.metrics.cacheDrops.Inc()
	}
	db.view = &view{snapshot: s, cache: pages}
}
