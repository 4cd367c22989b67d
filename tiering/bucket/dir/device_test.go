package dir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/tiering/bucket"
)

// mountTmpfs mounts a file system of its own on a new directory. It needs root.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	at := t.TempDir()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, options); err != nil {
		t.Fatalf("this test mounts a tmpfs of its own and so must run as root (uid 0 with CAP_SYS_ADMIN; uid is %d): %v", os.Getuid(), err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("unmount %s: %v", at, err)
		}
	})
	return at
}

func openAt(t *testing.T, root string) *Bucket {
	t.Helper()
	b, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A target that is full says so, keeps what it has, leaves nothing half written, and
// goes on when there is room again.
func TestFull(t *testing.T) {
	b := openAt(t, mountTmpfs(t, "size=1m"))
	ctx := t.Context()
	block := make([]byte, 100_000)
	stored := 0
	var err error
	for ; err == nil && stored < 100; stored++ {
		err = b.PutIfAbsent(ctx, fmt.Sprintf("full/%03d", stored), block)
	}
	stored--
	if !errors.Is(err, bucket.ErrFull) || !bucket.IsPermanent(err) || !strings.Contains(err.Error(), b.root) {
		t.Fatalf("after %d objects: %v, want ErrFull", stored, err)
	}
	listed := 0
	if err := b.List(ctx, "", "", func(a bucket.Attributes) bool { listed++; return a.Size == int64(len(block)) }); err != nil || listed != stored {
		t.Errorf("%d objects listed of %d stored, %v", listed, stored, err)
	}
	if left, err := os.ReadDir(filepath.Join(b.root, tempDir)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := b.Delete(ctx, "full/000"); err != nil {
		t.Fatalf("delete on a full target: %v", err)
	}
	if err := b.PutIfAbsent(ctx, "full/again", block); err != nil {
		t.Errorf("put after a delete: %v", err)
	}
}

// As for space, so for inodes.
func TestFullOfInodes(t *testing.T) {
	b := openAt(t, mountTmpfs(t, "size=1m,nr_inodes=12"))
	var err error
	for i := range 20 {
		if err = b.PutIfAbsent(t.Context(), fmt.Sprintf("d%d/k", i), nil); err != nil {
			break
		}
	}
	if !errors.Is(err, bucket.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
}

// A target that is read-only can be read, and says so when it is written.
func TestReadOnly(t *testing.T) {
	at := mountTmpfs(t, "size=1m")
	b := openAt(t, at)
	ctx := t.Context()
	if err := b.PutIfAbsent(ctx, "k/old", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Bucket{b, openAt(t, at)} {
		for call, err := range map[string]error{
			"put": b.PutIfAbsent(ctx, "k/new", nil), "put into a new directory": b.PutIfAbsent(ctx, "l/new", nil), "delete": b.Delete(ctx, "k/old"),
		} {
			if !errors.Is(err, bucket.ErrDenied) || !bucket.IsPermanent(err) || !strings.Contains(err.Error(), "read-only") || !strings.Contains(err.Error(), at) {
				t.Errorf("%s: %v, want ErrDenied that says read-only", call, err)
			}
		}
		if got, err := b.Get(ctx, "k/old", 0, -1); err != nil || string(got) != "v" {
			t.Errorf("Get: %q, %v", got, err)
		}
		if err := b.Delete(ctx, "absent"); err != nil && !errors.Is(err, bucket.ErrDenied) {
			t.Errorf("delete of what is absent: %v", err)
		}
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	if err := b.PutIfAbsent(ctx, "k/new", nil); err != nil {
		t.Errorf("put after it became writable: %v", err)
	}
}

// Another file system mounted over the root, or the right one unmounted, is not the bucket.
func TestMountedOver(t *testing.T) {
	at := mountTmpfs(t, "size=1m")
	b := openAt(t, at)
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	wantGone(t, b)
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.PutIfAbsent(t.Context(), "k", nil); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}
