package media_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/media/mediatest"
)

func TestFile(t *testing.T) {
	var last string
	mediatest.Run(t, func(t *testing.T, again bool) media.Dir {
		if !again {
			last = t.TempDir()
		}
		d, err := media.OpenFile(last)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := media.OpenFile(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing directory: %v", err)
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := media.OpenFile(file); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("a file for a directory: %v", err)
	}
}

// An allocation for which there is no room is ErrDiskFull and leaves nothing behind. On a disk
// that others use it must not be tried: for a moment it takes all that is free.
func TestFileNoRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("this test mounts a tmpfs and so must run as root, as make test does it: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	d, err := media.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	free, err := d.Free()
	if err != nil || free < 512<<10 || free > 1<<20 {
		t.Fatalf("%d bytes free of 1 MiB, %v", free, err)
	}
	if _, err := d.Create("big", free+1<<16); !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("Create of more than is free: %v", err)
	}
	if names, err := d.List(); err != nil || len(names) != 0 {
		t.Fatalf("left behind: %q, %v", names, err)
	}
	if again, err := d.Free(); err != nil || again != free {
		t.Errorf("%d bytes free, %d before; %v", again, free, err)
	}
	if err := d.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
}
