package pageserver

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// shortFS has room for so many writes of half of what is asked, then none until it is told.
type shortFS struct {
	vfs.FS
	refused atomic.Int64 // writes that found no room
	full    atomic.Bool
}

func (s *shortFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	return &shortFile{f, s}, err
}

type shortFile struct {
	vfs.File
	s *shortFS
}

func (f *shortFile) Write(p []byte) (int, error) {
	if f.s.full.Load() {
		n, err := f.File.Write(p[:len(p)/2]) // what there was room for
		if f.s.refused.Add(1) == 3 {
			f.s.full.Store(false)
		}
		return n, errors.Join(err, syscall.ENOSPC)
	}
	return f.File.Write(p)
}

// TestManifestWaitsForRoom: a write that finds no room goes on where it ended; other files fail at once; while
// the store is being closed the wait is bounded.
func TestManifestWaitsForRoom(t *testing.T) {
	short := &shortFS{FS: vfs.NewMem()}
	closing := &atomic.Bool{}
	d := diskFS{short, &room{}, closing}
	write := func(name string) error {
		t.Helper()
		f, err := d.Create(name, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = f.Write([]byte("all of it"))
		return err
	}
	short.full.Store(true)
	if err := write("MANIFEST-000001"); err != nil || short.refused.Load() != 3 {
		t.Errorf("%v after %d writes that found no room", err, short.refused.Load())
	}
	f, err := d.Open("MANIFEST-000001")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 32)
	if n, _ := f.Read(got); string(got[:n]) != "all of it" {
		t.Errorf("%q was written", got[:n])
	}
	short.full.Store(true)
	if err := write("000002.sst"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a table: %v", err)
	}
	short.refused.Store(10) // it stays full
	short.full.Store(true)
	closing.Store(true)
	if err := write("MANIFEST-000003"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("while it is being closed: %v", err)
	}
}
