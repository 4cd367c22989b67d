package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// file is one connection's handle of the database file. SQLite uses it from one
// goroutine at a time.
//
// Invariant: view is set while level >= SHARED; overlay only while level >= RESERVED.
type file struct {
	db      *Database
	level   vfs.LockLevel
	view    *view
	overlay *overlay // what the transaction wrote; nil = nothing
	failed  error    // a write of the transaction that failed: it must not commit
	ended   bool     // the transaction has committed or failed to, and the lock is still held
	ahead   readAhead
	conn    *sqlite3.Conn // set by SQLite; nil while it opens the file
}

var (
	_ vfs.FileLockState      = (*file)(nil)
	_ vfs.FileCommitPhaseTwo = (*file)(nil)
	_ vfs.FilePragma         = (*file)(nil)
	_ vfs.FileSync           = (*file)(nil)
)

// SetDB is told which connection the file belongs to.
func (f *file) SetDB(conn any) { f.conn, _ = conn.(*sqlite3.Conn) }

// context is what SQLite's waiting for LogCore runs under: it ends with the Database
// and with the context that the application gave to sqlite3.Conn.SetInterrupt. Not so
// a commit: giving up waiting for one leaves its outcome unknown.
func (f *file) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(f.db.ctx)
	if f.conn == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(f.conn.GetInterrupt(), cancel)
	return ctx, func() { stop(); cancel() }
}

// page returns a page of a view; the caller must not modify it.
func (f *file) page(v *view, no uint32) ([]byte, error) {
	if data := v.cache.get(v.version, no); data != nil {
		f.db.metrics.hits.Inc()
		return data, nil
	}
	ctx, cancel := f.context()
	defer cancel()
	return f.db.fetchPage(ctx, v, no, &f.ahead)
}

// Close drops the handle and what it had not committed.
func (f *file) Close() error {
	f.Unlock(vfs.LOCK_NONE)
	f.db.fileClosed()
	return nil
}

// reading returns the view to read from. SQLite reads the header of a file that it
// opens before it has a lock; what it learns there it checks again under the lock. Such
// a read may go on while another connection commits.
func (f *file) reading() (*view, error) {
	f.db.mu.Lock()
	defer f.db.mu.Unlock()
	if f.view != nil {
		return f.view, f.db.poison
	}
	return f.db.view, f.db.poison
}

// ReadAt reads what the transaction sees: its own writes over its snapshot.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.readAt(b, off)
	if err != nil && err != io.EOF {
		err = f.fault(err, sqlite3.IOERR_READ)
	}
	return n, err
}

func (f *file) readAt(b []byte, off int64) (int, error) {
	v, err := f.reading()
	if err != nil {
		return 0, err
	}
	size, unit := v.bytes(), int64(v.pageSize)
	if f.overlay != nil {
		size, unit = f.overlay.size, f.overlay.unit
	}
	n := 0
	for n < len(b) && off < size {
		block, err := f.block(v, uint32(off/unit))
		if err != nil {
			return n, err
		}
		if int64(len(block)) != unit {
			return n, fmt.Errorf("sqlite: block %d has %d bytes, want %d", off/unit, len(block), unit)
		}
		within := off % unit
		m := copy(b[n:min(int64(len(b)), int64(n)+size-off)], block[within:])
		n, off = n+m, off+int64(m)
	}
	if n < len(b) {
		return n, io.EOF // SQLite takes it for zeros
	}
	return n, nil
}

// block returns a block as the transaction sees it; the caller must not modify it.
func (f *file) block(v *view, no uint32) ([]byte, error) {
	if f.overlay != nil {
		if data, ok := f.overlay.block(no); ok {
			return data, nil
		}
	}
	return f.page(v, no)
}

// WriteAt keeps the write until the transaction commits.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if err := f.writing(); err != nil {
		return 0, err
	}
	err := f.overlay.write(b, off, func(no uint32) ([]byte, error) {
		return f.page(f.view, no)
	})
	if err != nil {
		// SQLite can only roll back now. Not in every journal mode does it write back what
		// it has written, so nothing of it may stay.
		f.overlay, f.failed = nil, err
		return 0, f.fault(err, sqlite3.IOERR_WRITE)
	}
	return len(b), nil
}

var errLocking = errors.New("sqlite: write without a lock of its own: locking_mode and nolock must be left alone")

func (f *file) writing() error {
	if f.level < vfs.LOCK_RESERVED || f.ended {
		return f.fault(errLocking, sqlite3.IOERR_WRITE)
	}
	if f.overlay == nil {
		f.overlay = newOverlay(f.view.snapshot, f.db.opts.TxBytesMax)
	}
	return nil
}

// Truncate keeps the new length until the transaction commits.
func (f *file) Truncate(size int64) error {
	if now, err := f.Size(); err == nil && now == size {
		return nil
	}
	if err := f.writing(); err != nil {
		return err
	}
	if now, within := f.overlay.size, size%max(f.overlay.unit, 1); size < now && within != 0 {
		// The rest of the last block is cut, too, should the file grow again.
		rest := min(f.overlay.unit-within, now-size)
		if _, err := f.WriteAt(make([]byte, rest), size); err != nil {
			return err
		}
	}
	f.overlay.truncate(size)
	return nil
}

// Size returns the file's length as the transaction sees it.
func (f *file) Size() (int64, error) {
	if f.overlay != nil {
		return f.overlay.size, nil
	}
	v, err := f.reading()
	if err != nil {
		return 0, f.fault(err, sqlite3.IOERR_FSTAT)
	}
	return v.bytes(), nil
}

// CommitPhaseTwo is called once the transaction's content is complete, in every
// journal mode, and its failure fails the COMMIT. (A code that is not an I/O error
// would not: only that makes the pager give up its cache.)
func (f *file) CommitPhaseTwo() error {
	err := f.failed
	if f.overlay != nil && err == nil {
		err = f.db.commit(f)
		f.ended = true
	}
	f.overlay = nil
	if err != nil {
		return f.fault(err, sqlite3.IOERR_COMMIT_ATOMIC)
	}
	return nil
}

// Sync does nothing: CommitPhaseTwo makes the transaction durable or fails.
func (f *file) Sync(vfs.SyncFlag) error { return nil }

// SyncSuper refuses a transaction that also writes to another attached database: its
// commit would not be atomic.
func (f *file) SyncSuper(super string) error {
	if super == "" {
		return nil
	}
	return f.fault(errors.New("sqlite: a transaction cannot write to this database and to another attached one: commit them separately"), sqlite3.IOERR_COMMIT_ATOMIC)
}

// Pragma refuses the pragmas that this file cannot honour. In exclusive locking mode
// SQLite raises the file's change counter only once, so that readers elsewhere would
// trust pages that have changed, and never asks again whether it may still write.
func (f *file) Pragma(name, value string) (string, error) {
	switch value = strings.ToLower(strings.Trim(value, `'"`)); {
	case name == "journal_mode" && value == "wal":
		return "", errors.New("journal_mode=wal is not available: the log is the write-ahead log, leave journal_mode alone")
	case name == "locking_mode" && value == "exclusive":
		return "", errors.New("locking_mode=exclusive is not available: the log has one writing process as it is, leave locking_mode alone")
	}
	return "", sqlite3.NOTFOUND
}

// SectorSize is a hint that SQLite ignores given POWERSAFE_OVERWRITE.
func (f *file) SectorSize() int { return 4096 }

// DeviceCharacteristics leaves out BATCH_ATOMIC although a commit is a batch-atomic
// write here. In this build of SQLite a batch commit does not raise the file's change
// counter, by which the other connections notice that their own page caches are old
// (TestConnectionsSeeEachOther fails with it); and a batch ends before SQLite shortens
// the file. So the batch is ours, from the first write to CommitPhaseTwo, and SQLite
// keeps a rollback journal, in memory like everything else.
func (f *file) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return vfs.IOCAP_SAFE_APPEND | vfs.IOCAP_SEQUENTIAL | vfs.IOCAP_POWERSAFE_OVERWRITE | vfs.IOCAP_SUBPAGE_READ
}
