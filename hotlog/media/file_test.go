package media_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

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

// An allocation that no disk can satisfy is ErrDiskFull and leaves nothing behind.
func TestFileNoRoom(t *testing.T) {
	dir := t.TempDir()
	d, err := media.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	free, err := d.Free()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("big", free+1<<30); !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("Create of more than is free: %v", err)
	}
	if names, err := d.List(); err != nil || len(names) != 0 {
		t.Fatalf("left behind: %q, %v", names, err)
	}
}
