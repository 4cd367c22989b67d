package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/logcore/logcore"
)

// writtenMax bounds the page numbers that the writer remembers its last change of.
const writtenMax = 1 << 20

// Database is one SQLite database in a log, opened by this process. It owns a VFS
// under a name of its own, through which connections reach it; it may be used by many
// goroutines, a connection by one at a time.
type Database struct {
	opts    Options
	vfsName string
	pinned  bool // every snapshot is that of Open
	metrics metrics
	ctx     context.Context // ends with Close; what SQLite asks for runs under it
	cancel  context.CancelFunc

	acquiring chan struct{} // one token: who holds it may open the writer

	mu       sync.Mutex
	unlocked *sync.Cond // on mu: shared fell

	// The locks of SQLite's protocol; guarded by mu.
	files    int   // connections' handles
	shared   int   // files with SHARED or more
	reserved *file // the one with RESERVED or more
	pending  *file // the one with PENDING or more

	// The state of the log as known here; guarded by mu.
	view         *view
	writer       Writer
	based        bool                   // writer is set and view is the log's end
	written      map[uint32]logcore.LSN // last change by this writer since writtenFloor
	writtenFloor logcore.LSN
	lastCommit   Commit
	poison       error // why nothing works until the database is opened again
	lastFault    error // see Explain
	closed       bool
}

var vfsCount atomic.Uint64

// Open opens the database that a log holds. A log that does not exist, or has no
// entry, is an empty database; read-only it must exist (logcore.ErrLogNotFound). An
// LSN that the page server does not have within ReadTimeout is a logcore.LagError.
func Open(ctx context.Context, opts Options) (*Database, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	db := &Database{
		opts:      opts,
		vfsName:   fmt.Sprintf("logcore-%d", vfsCount.Add(1)),
		pinned:    opts.ReadOnly && !opts.Follow,
		metrics:   newMetrics(opts.Registerer),
		acquiring: make(chan struct{}, 1),
		view:      &view{cache: newCache(opts.CacheBytes)},
		written:   make(map[uint32]logcore.LSN),
	}
	db.unlocked = sync.NewCond(&db.mu)
	db.ctx, db.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := db.start(ctx); err != nil {
		db.cancel()
		if db.writer != nil {
			err = errors.Join(err, db.writer.Close(ctx))
		}
		return nil, err
	}
	vfs.Register(db.vfsName, fileSystem{db})
	return db, nil
}

func (db *Database) start(ctx context.Context) error {
	if db.opts.WriteNow {
		_, err := db.acquire(ctx)
		return err
	}
	s, err := db.sizeAtOpen(ctx)
	if err != nil {
		return err
	}
	db.advance(s)
	return nil
}

func (db *Database) sizeAtOpen(ctx context.Context) (snapshot, error) {
	if db.opts.LSN != 0 {
		return db.sizeAt(ctx, db.opts.LSN)
	}
	return db.newest(ctx)
}

// acquire makes this process the log's writer, if it isn't, and returns the view of the
// log's end, which from then on only this process moves.
func (db *Database) acquire(ctx context.Context) (*view, error) {
	select {
	case db.acquiring <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-db.acquiring }()
	db.mu.Lock()
	writer, based, current, err := db.writer, db.based, db.view, db.poison
	db.mu.Unlock()
	if err != nil || based {
		return current, err
	}
	if writer == nil {
		if writer, err = db.openWriter(ctx); err != nil {
			return nil, err
		}
	}
	return db.base(ctx, writer)
}

func (db *Database) openWriter(ctx context.Context) (Writer, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opts.CommitTimeout)
	defer cancel()
	writer, err := db.opts.Source.OpenWriter(ctx, db.opts.Takeover)
	if err != nil {
		return nil, fmt.Errorf("sqlite: log %q: open for writing: %w", db.opts.Log, err)
	}
	db.opts.Logger.Info("sqlite: writer epoch granted", "log", db.opts.Log, "epoch", writer.Epoch(), "last_lsn", writer.LastLSN())
	db.mu.Lock()
	defer db.mu.Unlock()
	db.writer = writer
	return writer, nil
}

// base makes the log's end the current view. The epoch fences every other writer, so
// the log's last entry stays its last until we append.
func (db *Database) base(ctx context.Context, writer Writer) (*view, error) {
	var head snapshot
	if last := writer.LastLSN(); last != 0 {
		var err error
		if head, err = db.sizeAt(ctx, last); err != nil {
			return nil, err
		}
		if head.at < last {
			return nil, fmt.Errorf("sqlite: log %q: asked for the size at LSN %d, got it at %d", db.opts.Log, last, head.at)
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.setView(head)
	db.based, db.writtenFloor = true, head.version
	return db.view, nil
}

// openFile hands out a handle of the database file to a connection.
func (db *Database) openFile() (*file, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, fmt.Errorf("%w: sqlite: log %q", logcore.ErrClosed, db.opts.Log)
	}
	if db.poison != nil {
		return nil, db.poison
	}
	db.files++
	return &file{db: db}, nil
}

func (db *Database) fileClosed() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.files--
}

// Conn opens a connection. It is the caller's to close, before the Database is; it is
// not safe for use by several goroutines at once. Errors of its statements become
// clear through Explain.
func (db *Database) Conn(ctx context.Context) (*sqlite3.Conn, error) {
	conn, err := sqlite3.OpenContext(ctx, db.DSN())
	return conn, db.Explain(err)
}

// DSN is the database's name for sqlite3.Open and, with the package
// github.com/ncruces/go-sqlite3/driver, for database/sql's driver "sqlite3".
func (db *Database) DSN() string {
	return fmt.Sprintf("file:%s?vfs=%s&_pragma=busy_timeout(%d)", url.PathEscape(db.opts.Log), db.vfsName, db.opts.BusyTimeout.Milliseconds())
}

// LSN is the position of this Database in its log: the last commit, or the snapshot
// that was read last or is pinned.
func (db *Database) LSN() logcore.LSN {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.view.at
}

// SnapshotLSN is the LSN that the connection's open transaction reads; outside of one it
// is that of the Database. The connection must be one to a Database.
func SnapshotLSN(conn *sqlite3.Conn) (logcore.LSN, error) {
	handle, err := conn.FileControl("main", sqlite3.FCNTL_FILE_POINTER)
	if err != nil {
		return 0, fmt.Errorf("sqlite: snapshot of a connection: %w", err)
	}
	for {
		switch f := handle.(type) {
		case *file:
			v, err := f.reading()
			if err != nil {
				return 0, err
			}
			return v.at, nil
		case vfs.FileUnwrap:
			handle = f.Unwrap()
		default:
			return 0, fmt.Errorf("%w: sqlite: the connection is to no log but a %T", logcore.ErrInvalid, handle)
		}
	}
}

// LastCommit is the last transaction that this Database committed, zero when none.
func (db *Database) LastCommit() Commit {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.lastCommit
}

// Epoch is the writer epoch held, 0 for none.
func (db *Database) Epoch() logcore.Epoch {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.writer == nil {
		return 0
	}
	return db.writer.Epoch()
}

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
		db.view = &view{snapshot: snapshot{at: db.view.at}, cache: newCache(db.opts.CacheBytes)}
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
	}
	return err
}

// Close gives the writer epoch back; everything that COMMIT returned for is durable
// already. It refuses, changing nothing, while connections
// are open (logcore.ErrInUse). A second Close does nothing.
func (db *Database) Close(ctx context.Context) error {
	db.mu.Lock()
	if db.files > 0 {
		n := db.files
		db.mu.Unlock()
		return fmt.Errorf("%w: sqlite: log %q: %d connections are open: close them first", logcore.ErrInUse, db.opts.Log, n)
	}
	writer, closed, reported := db.writer, db.closed, db.poison
	db.closed, db.writer, db.based = true, nil, false
	db.mu.Unlock()
	if closed {
		return nil
	}
	vfs.Unregister(db.vfsName)
	db.cancel()
	if writer != nil {
		// A writer that failed says so again; whoever saw it fail knows.
		if err := writer.Close(ctx); err != nil && reported == nil {
			return fmt.Errorf("sqlite: log %q: close: %w", db.opts.Log, err)
		}
	}
	return nil
}
