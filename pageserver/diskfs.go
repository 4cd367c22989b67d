package pageserver

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskFS is the store's file system with two differences that a full disk asks for.
//
// A write to Pebble's manifest waits for room. Any other file that can't be written is written
// again later, under another name; after a failed write to the manifest Pebble can't go on, and
// would take the process, and with it all reads, down. The reserve of the disk makes that rare, not
// impossible: somebody else may take the last byte. Nobody waits for ever, though: who opens or stops
// a page server does for hurryWait, then the store is abandoned. From then on it is on the disk
// as it would be had the process been killed: no manifest is written and no file removed any
// more, whatever Pebble believes. Opened again, it goes on from there.
//
// And any other write that finds no room fails after a pause, since Pebble does it again at once.
//
// A failed sync is returned as it is: what is on the disk then is not known.
type diskFS struct {
	vfs.FS
	room *room
}

const (
	// manifestPrefix is how the names of Pebble's manifests begin.
	manifestPrefix = "MANIFEST-"
	// markerPrefix is how the names of the empty files begin that say which manifest counts.
	markerPrefix = "marker."
	// hurryWait is how long a write waits for room while the store is opened or its server stops.
	hurryWait = 2 * time.Second
)

// Create implements vfs.FS.
func (d diskFS) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	base := d.PathBase(name)
	if !strings.HasPrefix(base, manifestPrefix) && !strings.HasPrefix(base, markerPrefix) {
		if f, err = d.FS.Create(name, category); err != nil {
			return nil, d.pause(err)
		}
		return &pausingFile{f, d}, nil
	}
	err = d.patiently(func() error {
		f, err = d.FS.Create(name, category)
		return err
	})
	if d.room.abandoned.Load() {
		if f == nil {
			f = vfs.NewMemFile(nil) // written, and never seen again
		}
		return &patientFile{f, d}, nil
	}
	if err != nil {
		return nil, err
	}
	return &patientFile{f, d}, nil
}

// Remove implements vfs.FS.
func (d diskFS) Remove(name string) error {
	if d.room.abandoned.Load() {
		return nil // the manifest on the disk may name it
	}
	return d.FS.Remove(name)
}

// patiently does something again as long as there is no room for it, and not at all once the
// store is abandoned.
func (d diskFS) patiently(do func() error) error {
	var hurried time.Time // since when
	for waits := false; !d.room.abandoned.Load(); {
		err := do()
		if err == nil || !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if !waits {
			waits = true
			d.room.manifestWaits(+1)
			defer d.room.manifestWaits(-1)
		}
		switch {
		case !d.room.hurry.Load():
			hurried = time.Time{}
		case hurried.IsZero():
			hurried = time.Now()
		case time.Since(hurried) > hurryWait:
			d.room.abandoned.Store(true)
		}
		time.Sleep(roomEvery)
	}
	return nil
}

// pause waits a little when err says that there is no room.
func (d diskFS) pause(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		time.Sleep(roomEvery)
	}
	return err
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
	if err == nil {
		n = len(p) // if the store is abandoned, that is what Pebble is to believe
	}
	return n, err
}

// Sync implements vfs.File.
func (f *patientFile) Sync() error {
	if f.d.room.abandoned.Load() {
		return nil
	}
	return f.File.Sync()
}

// pausingFile is a file whose writes fail after a pause when there is no room.
type pausingFile struct {
	vfs.File
	d diskFS
}

// Write implements vfs.File.
func (f *pausingFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.d.pause(err)
}
