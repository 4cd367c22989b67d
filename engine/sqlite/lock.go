package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/logcore/logcore"
)

// exclusiveWait is how long a lock waits for readers to leave before it is busy;
// SQLite's own busy handler decides how often that is repeated.
const exclusiveWait = time.Millisecond

// askAgainAfter spaces the requests for an epoch that another process holds.
const askAgainAfter = 20 * time.Millisecond

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Lock raises the file's lock. A SHARED lock pins the snapshot that the transaction
// reads; a RESERVED lock takes the writer epoch.
func (f *file) Lock(level vfs.LockLevel) error {
	if f.level >= level {
		return nil
	}
	if f.level < vfs.LOCK_SHARED {
		if err := f.lockShared(); err != nil {
			return f.fault(err, sqlite3.IOERR_LOCK)
		}
	}
	if level >= vfs.LOCK_RESERVED && f.level < vfs.LOCK_RESERVED {
		if err := f.lockReserved(); err != nil {
			return f.fault(err, sqlite3.IOERR_LOCK)
		}
	}
	if level >= vfs.LOCK_PENDING {
		if err := f.lockExclusive(); err != nil {
			return f.fault(err, sqlite3.IOERR_LOCK)
		}
	}
	return nil
}

// lockShared first counts itself, so that no commit of this process can come between
// choosing the snapshot and reading it.
func (f *file) lockShared() error {
	db := f.db
	db.mu.Lock()
	if db.pending != nil {
		db.mu.Unlock()
		return sqlite3.BUSY
	}
	db.shared++
	db.mu.Unlock()
	ctx, cancel := f.context()
	defer cancel()
	v, err := db.currentView(ctx)
	if err != nil {
		db.mu.Lock()
		db.leaveShared()
		db.mu.Unlock()
		return err
	}
	f.view, f.level = v, vfs.LOCK_SHARED
	return nil
}

// lockReserved makes this connection the one that writes. Its snapshot must be the
// log's end: a change to anything older would undo what others committed.
func (f *file) lockReserved() error {
	db := f.db
	if db.opts.ReadOnly {
		return sqlite3.READONLY
	}
	db.mu.Lock()
	if db.reserved != nil {
		db.mu.Unlock()
		return sqlite3.BUSY
	}
	db.reserved = f
	db.mu.Unlock()
	ctx, cancel := f.context()
	defer cancel()
	head, err := db.acquire(ctx)
	if errors.Is(err, logcore.ErrWriterActive) {
		pause(ctx, askAgainAfter) // SQLite's busy handler would ask hundreds of times a second
	}
	if err == nil && head.version != f.view.version {
		err = busySnapshot{f.view.at, head.at}
	}
	if err == nil {
		err = db.heed(ctx)
	}
	if err != nil {
		db.mu.Lock()
		db.reserved = nil
		db.mu.Unlock()
		return err
	}
	f.view, f.level = head, vfs.LOCK_RESERVED
	return nil
}

// lockExclusive waits for the other readers to leave. While it does no new one is let
// in: the lock stays PENDING when it is busy.
func (f *file) lockExclusive() error {
	db := f.db
	db.mu.Lock()
	defer db.mu.Unlock()
	db.pending, f.level = f, vfs.LOCK_PENDING
	if db.shared > 1 {
		deadline := time.Now().Add(exclusiveWait)
		defer time.AfterFunc(exclusiveWait, db.unlocked.Broadcast).Stop()
		for db.shared > 1 {
			if !time.Now().Before(deadline) {
				return sqlite3.BUSY
			}
			db.unlocked.Wait()
		}
	}
	f.level = vfs.LOCK_EXCLUSIVE
	return nil
}

// leaveShared is called with mu held.
func (db *Database) leaveShared() {
	db.shared--
	db.unlocked.Broadcast()
}

// Unlock lowers the file's lock. What a transaction wrote and did not commit goes.
func (f *file) Unlock(level vfs.LockLevel) error {
	if f.level <= level {
		return nil
	}
	db := f.db
	f.overlay, f.failed, f.ended = nil, nil, false
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.reserved == f {
		db.reserved = nil
	}
	if db.pending == f {
		db.pending = nil
	}
	if level == vfs.LOCK_NONE {
		db.leaveShared()
		f.view = nil
	}
	f.level = level
	return nil
}

// CheckReservedLock reports whether any connection of this Database is writing.
func (f *file) CheckReservedLock() (bool, error) {
	f.db.mu.Lock()
	defer f.db.mu.Unlock()
	return f.db.reserved != nil, nil
}

// LockState returns the lock held.
func (f *file) LockState() vfs.LockLevel { return f.level }
