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

// Identity is what the file says.
type Identity struct {
	ID ID
	// Marked is set once every target of the archive has got the cluster's marker. From
	// then on a target without it is not the target: it is lost, or not mounted.
	Marked bool
	// Supersedes is the highest epoch that the archive had seen when this directory was
	// restored from it: what an archiver of another incarnation wrote or claimed up to then
	// is this one's past. 0 = it was not restored.
	Supersedes uint64
}

// Write makes dir a directory of the cluster; it is durable on return. It replaces
// what stood there.
func Write(dir string, identity Identity) error {
	if err := durable.WriteFile(filepath.Join(dir, FileName), appendFile(nil, identity), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Read returns the cluster that dir belongs to. It fails as ReadIdentity does.
func Read(dir string) (ID, error) {
	identity, err := ReadIdentity(dir)
	return identity.ID, err
}

// ReadIdentity returns what dir says about itself. A directory without the file is an
// error that wraps fs.ErrNotExist; a damaged file wraps logcore.ErrCorrupt, one of a newer
// version logcore.ErrUnsupportedVersion.
func ReadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, FileName)
	f, err := os.Open(path)
	if err != nil {
		return Identity{}, fmt.Errorf("cluster: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return Identity{}, fmt.Errorf("cluster: %w", err)
	}
	return decodeFile(data, path)
}
