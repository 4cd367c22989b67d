package dir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/tiering/bucket"
)

// everyCall returns the error of each method under its name.
func everyCall(t *testing.T, b *Bucket) map[string]error {
	t.Helper()
	ctx := t.Context()
	_, get := b.Get(ctx, "some/key", 0, -1)
	_, head := b.Head(ctx, "some/key")
	return map[string]error{
		"PutIfAbsent": b.PutIfAbsent(ctx, "some/key", []byte("x")), "Get": get, "Head": head,
		"List": b.List(ctx, "", "", func(bucket.Attributes) bool { return true }), "Delete": b.Delete(ctx, "some/key"),
	}
}

func wantGone(t *testing.T, b *Bucket) {
	t.Helper()
	for call, err := range everyCall(t, b) {
		if !errors.Is(err, bucket.ErrGone) || errors.Is(err, bucket.ErrNotFound) || !strings.Contains(err.Error(), b.root) {
			t.Errorf("%s: %v, want ErrGone and the path", call, err)
		}
	}
}

func TestOpenMakesNothing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "absent")
	if _, err := Open(root); !errors.Is(err, bucket.ErrGone) {
		t.Errorf("absent root: %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open made the root: %v", err)
	}
	for _, open := range []func() error{func() error { _, err := Open("relative"); return err }, func() error { return Init("relative") }} {
		if err := open(); !errors.Is(err, bucket.ErrInvalid) {
			t.Errorf("relative path: %v", err)
		}
	}
	b := fresh(t)
	entries, err := os.ReadDir(b.root)
	if err != nil || len(entries) != 0 {
		t.Errorf("after Open: %v, %v", entries, err)
	}
}

// The root goes away, comes back, and is replaced while the bucket is open.
func TestRootGoneWhileRunning(t *testing.T) {
	b := fresh(t)
	if err := b.PutIfAbsent(t.Context(), "some/key", []byte("x")); err != nil {
		t.Fatal(err)
	}
	away := b.root + ".away"
	if err := os.Rename(b.root, away); err != nil {
		t.Fatal(err)
	}
	wantGone(t, b)
	if _, err := os.Stat(b.root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an operation made the root: %v", err)
	}
	// An empty directory in its place, as an unmounted mount point is, is not the bucket.
	if err := os.Mkdir(b.root, 0o755); err != nil {
		t.Fatal(err)
	}
	wantGone(t, b)
	if entries, err := os.ReadDir(b.root); err != nil || len(entries) != 0 {
		t.Errorf("written into the wrong directory: %v, %v", entries, err)
	}
	if err := errors.Join(os.Remove(b.root), os.Rename(away, b.root)); err != nil {
		t.Fatal(err)
	}
	for call, err := range everyCall(t, b) {
		if err != nil {
			t.Errorf("%s after the root came back: %v", call, err)
		}
	}
}

// A root that is removed and made again at once gets the same inode number on some file
// systems; it is another directory all the same.
func TestRootMadeAgain(t *testing.T) {
	b := fresh(t)
	for range 20 {
		if err := errors.Join(os.RemoveAll(b.root), os.Mkdir(b.root, 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := b.PutIfAbsent(t.Context(), "k", nil); !errors.Is(err, bucket.ErrGone) {
			t.Fatalf("%v, want ErrGone", err)
		}
	}
}

// A listing must not come back short, as if complete, because the root went away in it.
func TestRootGoneDuringList(t *testing.T) {
	b := fresh(t)
	for _, key := range []string{"a/1", "b/1", "c/1"} {
		if err := b.PutIfAbsent(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	err := b.List(t.Context(), "", "", func(bucket.Attributes) bool {
		seen++
		if err := os.Rename(b.root, b.root+".away"); err != nil && seen == 1 {
			t.Error(err)
		}
		return true
	})
	if !errors.Is(err, bucket.ErrGone) {
		t.Errorf("%d keys, %v; want ErrGone", seen, err)
	}
}

func TestForeignFilesAreNoObjects(t *testing.T) {
	b := fresh(t)
	ctx := t.Context()
	if err := b.PutIfAbsent(ctx, "a/k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"~tmp/put-1", "~tmp/k", "lost+found/x", "a/k~", "a/b c"} {
		path := filepath.Join(b.root, foreign)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(b.root, "a/link")), os.Mkdir(filepath.Join(b.root, "empty"), 0o755)); err != nil {
		t.Fatal(err)
	}
	var keys []string
	if err := b.List(ctx, "", "", func(a bucket.Attributes) bool { keys = append(keys, a.Key); return true }); err != nil || len(keys) != 1 {
		t.Errorf("listed: %v, %v", keys, err)
	}
	for _, key := range []string{"a/link", "empty"} {
		if _, err := b.Head(ctx, key); !errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("Head(%s): %v", key, err)
		}
		if err := b.PutIfAbsent(ctx, key, []byte("x")); err == nil {
			t.Errorf("PutIfAbsent(%s) over something else succeeded", key)
		}
	}
}

func TestPrefixConflicts(t *testing.T) {
	b := fresh(t)
	if err := b.PutIfAbsent(t.Context(), "a/b", nil); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "a/b/c", "a/b/c/d"} {
		if err := b.PutIfAbsent(t.Context(), key, nil); !errors.Is(err, bucket.ErrInvalid) {
			t.Errorf("PutIfAbsent(%s) beside a/b: %v", key, err)
		}
	}
}
