package pageserver

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskFS is the store's file system with one difference: a write to Pebble's manifest waits for
// room when the disk is full. Any other file that can't be written is written again later, under
// another name; after a failed write to the manifest Pebble can't go on, and would take the
// process, and with it all reads, down. The reserve of the disk makes that rare, not impossible:
// somebody else may take the last byte.
//
// A failed sync is returned as it is: what is on the disk then is not known.
type diskFS struct {
	vfs.FS
	room    *room
	closing *atomic.Bool
}

// manifestPrefix is how the names of Pebble's manifests begin.
const manifestPrefix = "MANIFEST-"

// closingWait is how long a write waits for room while the store is being closed.
const closingWait = 2 * time.Second

// markerPrefix is how the names of the empty files begin that say which manifest counts.
const markerPrefix = "marker."

// Create implements vfs.FS.
func (d diskFS) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	base := d.PathBase(name)
	if !strings.HasPrefix(base, manifestPrefix) && !strings.HasPrefix(base, markerPrefix) {
		// Pebble tries a failed flush again at once, and would do nothing else.
		if d.room.isStuck() != nil && !d.closing.Load() {
			time.Sleep(roomEvery)
		}
		return d.FS.Create(name, category)
	}
	err = d.patiently(func() error {
		f, err = d.FS.Create(name, category)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &patientFile{f, d}, nil
}

// patiently does something again as long as there is no room for it.
func (d diskFS) patiently(do func() error) error {
	var closing time.Time // since when
	for {
		err := do()
		if err == nil || !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if d.closing.Load() {
			if closing.IsZero() {
				closing = time.Now()
			}
			if time.Since(closing) > closingWait {
				return err
			}
		}
		time.Sleep(roomEvery)
	}
}

// patientFile is a file whose writes wait for room.
type patientFile struct {
	vfs.File
	d diskFS
}

// Write implements vfs.File.
func (f *patientFile) Write(p []byte) (n int, err error) {
	err = f.d.patiently(func() error {
		written, err := f.File.Write(p[n:])
		n += written
		return err
	})
	return n, err
}
