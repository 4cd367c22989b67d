package sqlite

import (
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/logcore/logcore"
)

// Err is the error after which the Database refuses everything, nil while it works.
func (db *Database) Err() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.poison
}

// poisoned ends the use of this Database: what it holds may not be what the log holds.
func (db *Database) poisoned(err error) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	err = fmt.Errorf("%w; close the database and open it again", err)
	if db.poison == nil {
		db.poison = err
		db.view = &view{snapshot: snapshot{at: db.view.at}, cache: newCache(0, db.opts.CacheBytes)}
		db.opts.Logger.Error("sqlite: database refuses everything until it is opened again", "log", db.opts.Log, "err", err)
	}
	return err
}

func (db *Database) setFault(err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.lastFault = err
}

// Explain returns err with the reason behind it when it is an SQLite error whose cause
// lies in LogCore: SQLite hands an application a code ("disk I/O error", "database is
// locked") and drops the cause. errors.Is then finds both SQLite's code and
// logcore's sentinel.
func (db *Database) Explain(err error) error {
	var code sqlite3.ErrorCode
	if err == nil || !errors.As(err, &code) {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	cause := db.poison
	if cause == nil {
		cause = db.lastFault
	}
	switch code {
	case sqlite3.IOERR, sqlite3.BUSY, sqlite3.FULL, sqlite3.CANTOPEN:
		if cause != nil && !errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", err, cause)
		}
	case sqlite3.INTERRUPT:
		var paused *PausedError // anything else says nothing about an interrupt
		if errors.As(db.lastFault, &paused) {
			db.lastFault = nil
			return fmt.Errorf("%w: %w", err, paused)
		}
	}
	return err
}

// busySnapshot: the log has moved on since this transaction began.
type busySnapshot struct{ at, head logcore.LSN }

func (b busySnapshot) Error() string {
	return "sqlite: the log has moved from LSN " + b.at.String() + " to " + b.head.String() + " since this transaction began to read: roll back and begin again"
}

// fault records why SQLite is about to get an error code and returns that code: what
// SQLite itself can tell an application is little.
//
// While a transaction is written and committed SQLite takes only an I/O error and
// SQLITE_FULL for what they are. After anything else its pager believes what it has
// not written: it keeps the pages as clean, reads them in later transactions and may
// even write them with one. So the milder codes are for locks, and an interrupt also
// for reads, after which the pager has no page.
func (f *file) fault(err error, code sqlite3.ExtendedErrorCode) error {
	if code == sqlite3.IOERR_LOCK {
		var plain sqlite3.ErrorCode
		if errors.As(err, &plain) {
			f.db.setFault(nil) // SQLite's own affair
			return plain
		}
	}
	f.db.setFault(err)
	switch code {
	case sqlite3.IOERR_LOCK:
		return vfs.SystemError(err, f.lockCode(err))
	case sqlite3.IOERR_READ:
		if f.interrupted() {
			return vfs.SystemError(err, sqlite3.INTERRUPT)
		}
	case sqlite3.IOERR_WRITE:
		var large errTxTooLarge
		if errors.As(err, &large) {
			return vfs.SystemError(err, sqlite3.FULL)
		}
	}
	return vfs.SystemError(err, code)
}

// interrupted reports whether the application has given up waiting.
func (f *file) interrupted() bool { return f.conn != nil && f.conn.GetInterrupt().Err() != nil }

// lockCode is what SQLite is told when a lock can't be had. After BUSY trying again
// will do; an I/O error would roll the transaction back.
func (f *file) lockCode(err error) sqlite3.ExtendedErrorCode {
	var stale busySnapshot
	switch {
	case f.interrupted():
		return sqlite3.ExtendedErrorCode(sqlite3.INTERRUPT)
	case errors.As(err, &stale):
		return sqlite3.BUSY_SNAPSHOT
	case errors.Is(err, logcore.ErrWriterActive), errors.Is(err, logcore.ErrLSNInFuture), errors.Is(err, logcore.ErrOverloaded):
		return sqlite3.ExtendedErrorCode(sqlite3.BUSY)
	}
	return sqlite3.IOERR_LOCK
}
