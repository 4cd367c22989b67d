package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/logcore/logcore/engine/postgres/backup"
)

// Unpacker writes the archives of a base backup into a data directory. It is a backup.Sink. Tablespaces go inside; what the
// server left out of the backup stays out.
type Unpacker struct {
	dir  string
	file *os.File // nil between files
}

// NewUnpacker returns one for a directory.
func NewUnpacker(dir string) *Unpacker { return &Unpacker{dir: dir} }

// Begin implements backup.Sink.
func (u *Unpacker) Begin(e backup.Entry) (err error) {
	path := filepath.Join(u.dir, filepath.FromSlash(e.Path))
	if e.Directory {
		err = os.MkdirAll(path, 0o700)
	} else if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
		u.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Data implements backup.Sink.
func (u *Unpacker) Data(b []byte) error {
	if _, err := u.file.Write(b); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// End implements backup.Sink.
func (u *Unpacker) End() error {
	f := u.file
	if u.file = nil; f == nil {
		return nil
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Close lets go of a file that was not ended.
func (u *Unpacker) Close() error { return u.End() }
