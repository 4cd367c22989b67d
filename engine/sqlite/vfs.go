package sqlite

import (
	"errors"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
)

// fileSystem is the VFS of one Database: one database file, everything else in memory.
type fileSystem struct{ db *Database }

// Open opens the database, or a journal or temporary file in memory.
func (s fileSystem) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	switch {
	case flags&vfs.OPEN_MAIN_DB != 0:
		if name != s.db.opts.Log {
			return nil, flags, s.db.cannotOpen(errors.New("sqlite: no file " + name + " here: this file system holds the log " + s.db.opts.Log + " only"))
		}
		f, err := s.db.openFile()
		if err != nil {
			return nil, flags, s.db.cannotOpen(err)
		}
		if s.db.opts.ReadOnly {
			flags = flags&^(vfs.OPEN_READWRITE|vfs.OPEN_CREATE) | vfs.OPEN_READONLY
		}
		return f, flags, nil
	case flags&vfs.OPEN_WAL != 0:
		return nil, flags, s.db.cannotOpen(errors.New("sqlite: no write-ahead log: the log is one"))
	}
	// A journal is never looked for by another connection or after a crash: what it
	// would undo is gone with the process.
	return &vfsutil.SliceFile{}, flags | vfs.OPEN_MEMORY, nil
}

func (db *Database) cannotOpen(err error) error {
	db.setFault(err)
	return vfs.SystemError(err, sqlite3.CANTOPEN)
}

// Delete deletes a journal, which nobody can open again anyway.
func (s fileSystem) Delete(string, bool) error { return nil }

// Access reports that there is no journal.
func (s fileSystem) Access(string, vfs.AccessFlag) (bool, error) { return false, nil }

// FullPathname returns the name as it is.
func (s fileSystem) FullPathname(name string) (string, error) { return name, nil }
