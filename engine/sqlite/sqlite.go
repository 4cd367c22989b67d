package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

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
	acknowledged time.Time // when it was
	incarnation  uint64    // of the log service; 0 until it is known
	confirmed    time.Time // when the log was last asked whether all this still holds
	poison       error     // why nothing works until the database is opened again
	lastFault    error     // see Explain
	closed       bool
}

var vfsCount atomic.Uint64

// Open opens the database that a log holds. A log that does not exist, or has no
// entry, is an empty database; read-only it must exist (logcore.ErrLogNotFound). An
// LSN that the page server does not have within ReadTimeout is a logcore.LagError; for
// one that the log itself has not reached, Open waits 2 s at most.
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
		view:      &view{cache: newCache(0, opts.CacheBytes)},
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

// futureWait is how long Open waits for an LSN that the log has not reached.
const futureWait = 2 * time.Second

func (db *Database) sizeAtOpen(ctx context.Context) (snapshot, error) {
	if db.opts.LSN == 0 {
		return db.newest(ctx, snapshot{})
	}
	asking, cancel := context.WithTimeout(ctx, db.opts.ReadTimeout)
	defer cancel()
	end, err := db.end(asking)
	if err != nil {
		return snapshot{}, err
	}
	if db.opts.LSN > end.Committed {
		// A page server that is behind gets ReadTimeout; nobody may ever write this LSN.
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, futureWait)
		defer stop()
	}
	return db.sizeAt(ctx, db.opts.LSN)
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
