package media_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/media/mediatest"
)

func runPMEM(t *testing.T, tmp func(t *testing.T) string, open func(path string) (media.Dir, error)) {
	var last string
	mediatest.Run(t, func(t *testing.T, again bool) media.Dir {
		if !again {
			last = tmp(t)
		}
		d, err := open(last)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// shm is a directory on the tmpfs that every Linux has.
func shm(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/dev/shm", "logcore-media-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

// There is no persistent memory where this runs. What runs is all of the medium but
// MAP_SYNC: by msync, which is durable, and by cache-line write-back on ordinary
// mappings, which is not, and shows that the path does no harm.
func TestPMEM(t *testing.T) {
	disk := func(t *testing.T) string { return t.TempDir() }
	t.Run("msync/disk", func(t *testing.T) { runPMEM(t, disk, media.OpenPMEMMsync) })
	t.Run("msync/tmpfs", func(t *testing.T) { runPMEM(t, shm, media.OpenPMEMMsync) })
	if media.CanWriteBack() {
		t.Logf("write-back by %s", media.WriteBackInstruction())
		t.Run("writeback/disk", func(t *testing.T) { runPMEM(t, disk, media.OpenPMEMForced) })
		t.Run("writeback/tmpfs", func(t *testing.T) { runPMEM(t, shm, media.OpenPMEMForced) })
	}
}

// A page that the kernel can't provide is an error of the write, not the end of the process.
func TestPMEMFault(t *testing.T) {
	dir := t.TempDir()
	d, err := media.OpenPMEMMsync(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Create("a", 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(filepath.Join(dir, "a"), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 4095); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSync([]media.Write{{P: make([]byte, 64), Off: 40960}}); !errors.Is(err, unix.EIO) {
		t.Fatalf("write behind the end: %v", err)
	}
	if n, err := f.ReadAt(make([]byte, 64), 40960); n != 0 || err == nil {
		t.Fatalf("read behind the end: %d, %v", n, err)
	}
}

// The choice falls on what the directory offers; it says why, leaves nothing behind, and
// an asked for medium is never replaced by another.
func TestOpenChooses(t *testing.T) {
	for _, dir := range []string{t.TempDir(), shm(t)} {
		d, why, err := media.Open(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s: %s", dir, d.Medium(), why)
		_, pmem := media.OpenPMEM(dir)
		_, nvme := media.OpenNVMe(dir)
		want := "file"
		switch {
		case pmem == nil:
			want = "pmem"
		case nvme == nil:
			want = "nvme"
		}
		if d.Medium() != want || (want != "pmem") != strings.Contains(why, "persistent memory in "+dir) || (want == "file") != strings.Contains(why, "direct writes in "+dir) {
			t.Errorf("%s, because %s; want %s", d.Medium(), why, want)
		}
		for name, offered := range map[string]error{"pmem": pmem, "nvme": nvme, "file": nil} {
			d, why, err := media.Open(dir, name)
			if offered != nil {
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: %v, %v", name, d, err)
				}
			} else if err != nil || d.Medium() != name || why != "asked for" {
				t.Errorf("%s: %v, %q, %v", name, d, why, err)
			}
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
			t.Errorf("left behind: %v, %v", list, err)
		}
		if _, _, err := media.Open(dir, "tape"); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("tape: %v", err)
		}
	}
	if _, _, err := media.Open(filepath.Join(t.TempDir(), "missing"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

// What an unsynced msync file holds is in the page cache: a second mapping sees it at
// once, so that readers and recovery do.
func TestPMEMReadsItsWrites(t *testing.T) {
	d, err := media.OpenPMEMMsync(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Create("a", 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("stored"), 4093); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := f.ReadAt(got, 4093); err != nil || !bytes.Equal(got, []byte("stored")) {
		t.Fatalf("%q, %v", got, err)
	}
}
