// Package cluster keeps the identity of a cluster in a service's directory. The
// archive's targets carry the same identity, so that neither a directory is started
// against the archive of another cluster nor an archive is overwritten by one.
package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/logcore/logcore/internal/durable"
)

// ID names a cluster. Zero is none.
type ID [16]byte

// NewID returns a random id.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails: crypto/rand aborts the process instead
	return id
}

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// FileName is the name of the file in a service's directory.
const FileName = "cluster"

// Write makes dir a directory of the cluster; it is durable on return. It replaces
// what stood there.
func Write(dir string, id ID) error {
	if err := durable.WriteFile(filepath.Join(dir, FileName), appendFile(nil, id), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Read returns the cluster that dir belongs to. A directory without the file is an error
// that wraps fs.ErrNotExist; a damaged file wraps logcore.ErrCorrupt, one of a newer
// version logcore.ErrUnsupportedVersion.
func Read(dir string) (ID, error) {
	path := filepath.Join(dir, FileName)
	f, err := os.Open(path)
	if err != nil {
		return ID{}, fmt.Errorf("cluster: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return ID{}, fmt.Errorf("cluster: %w", err)
	}
	return decodeFile(data, path)
}
