package dir

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
)

// syncs records what is synced, relative to the root, and may fail.
type syncs struct {
	mu   sync.Mutex
	done []string
	fail func(name string) error
}

func recordSyncs(b *Bucket) *syncs {
	s := new(syncs)
	b.syncFile = func(f *os.File) error {
		name, err := filepath.Rel(b.root, f.Name())
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, tempDir) {
			name = "file"
			// What is synced must not have its final name yet, and must be complete.
			if info, err := f.Stat(); err == nil {
				name = fmt.Sprintf("file of %d", info.Size())
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = append(s.done, name)
		if s.fail != nil {
			return s.fail(name)
		}
		return f.Sync()
	}
	return s
}

func (s *syncs) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.done
	s.done = nil
	return done
}

// What must be synced before a put returns: the file while it has no name, then the
// directory that names it, and every directory above that is not known to be durable.
func TestPutSyncs(t *testing.T) {
	b := fresh(t)
	s := recordSyncs(b)
	ctx := t.Context()
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"first put", func() error { return b.PutIfAbsent(ctx, "x/y/k", []byte("123")) }, []string{".", "x", "file of 3", "x/y"}},
		{"second put", func() error { return b.PutIfAbsent(ctx, "x/y/l", []byte("1234")) }, []string{"file of 4", "x/y"}},
		{"put at the root", func() error { return b.PutIfAbsent(ctx, "m", nil) }, []string{"file of 0", "."}},
		{"put of equal bytes", func() error { return b.PutIfAbsent(ctx, "x/y/k", []byte("123")) }, []string{"x/y"}},
		{"delete", func() error { return b.Delete(ctx, "x/y/k") }, []string{"x/y"}},
		{"delete of what is absent", func() error { return b.Delete(ctx, "x/y/k") }, nil},
		{"read", func() error { _, err := b.Get(ctx, "m", 0, -1); return err }, nil},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if got := s.take(); !slices.Equal(got, step.want) {
			t.Errorf("%s synced %v, want %v", step.what, got, step.want)
		}
	}
	// Equal bytes that another process put, which may have died before it synced the
	// directories, are made durable by the one that is told "stored".
	other := openAt(t, b.root)
	s = recordSyncs(other)
	if err := other.PutIfAbsent(ctx, "x/y/l", []byte("1234")); err != nil {
		t.Fatal(err)
	}
	if got, want := s.take(), []string{"x/y", "x", "."}; !slices.Equal(got, want) {
		t.Errorf("another process's object: synced %v, want %v", got, want)
	}
}

// The file's sync fails: nothing is published, and the next put starts afresh.
func TestFileSyncFails(t *testing.T) {
	b := fresh(t)
	s := recordSyncs(b)
	broken := true
	s.fail = func(name string) error {
		if broken && strings.HasPrefix(name, "file") {
			return syscall.EIO
		}
		return nil
	}
	ctx := t.Context()
	if err := b.PutIfAbsent(ctx, "x/k", []byte("v")); !errors.Is(err, syscall.EIO) || bucket.IsPermanent(err) {
		t.Errorf("put: %v", err)
	}
	if _, err := b.Head(ctx, "x/k"); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("what wasn't synced is there: %v", err)
	}
	broken = false
	if err := b.PutIfAbsent(ctx, "x/k", []byte("v")); err != nil {
		t.Errorf("put afterwards: %v", err)
	}
}

// A directory's sync fails once, at each of the places where one is made: the kernel
// would let the second succeed though the name is lost, so the bucket takes no more
// writes until it is opened again.
func TestDirectorySyncFailsOnce(t *testing.T) {
	for at := 1; ; at++ {
		b := fresh(t)
		s := recordSyncs(b)
		n := 0
		s.fail = func(name string) error {
			if !strings.HasPrefix(name, "file") {
				if n++; n == at {
					return syscall.EIO
				}
			}
			return nil
		}
		ctx := t.Context()
		err := b.PutIfAbsent(ctx, "x/y/k", []byte("v"))
		if n < at {
			if err != nil || at != 4 {
				t.Fatalf("%d directory syncs, %v; want 3", at-1, err)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("sync %d fails: %v", at, err)
		}
		for call, err := range map[string]error{"put": b.PutIfAbsent(ctx, "x/y/k", []byte("v")), "delete": b.Delete(ctx, "x/y/k")} {
			if !errors.Is(err, logcore.ErrPoisoned) || !bucket.IsPermanent(err) {
				t.Errorf("%s after sync %d failed: %v, want ErrPoisoned", call, at, err)
			}
		}
		if err := b.List(ctx, "", "", func(bucket.Attributes) bool { return true }); err != nil {
			t.Errorf("reads go on: %v", err)
		}
	}
}

// Directories that vanish under a put are made again and synced again.
func TestDirectoryRemovedMeanwhile(t *testing.T) {
	b := fresh(t)
	ctx := t.Context()
	if err := b.PutIfAbsent(ctx, "x/y/k", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(b.root, "x")); err != nil {
		t.Fatal(err)
	}
	s := recordSyncs(b)
	if err := b.PutIfAbsent(ctx, "x/y/l", nil); err != nil {
		t.Fatal(err)
	}
	got := s.take()
	if len(got) < 3 || !slices.Equal(got[len(got)-2:], []string{"file of 0", "x/y"}) || !slices.Contains(got, ".") || !slices.Contains(got, "x") {
		t.Errorf("synced %v", got)
	}
}

func TestSweepLeavesLivePuts(t *testing.T) {
	root := fresh(t).root
	live := openAt(t, root)
	ctx := t.Context()
	temp := filepath.Join(root, tempDir)
	if err := errors.Join(os.MkdirAll(temp, 0o755), os.WriteFile(filepath.Join(temp, "put-dead"), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(temp, "notes"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	puts := 0
	live.syncFile = func(f *os.File) error {
		if strings.HasPrefix(f.Name(), temp) { // in the middle of a put, another process starts
			puts++
			if err := openAt(t, root).PutIfAbsent(ctx, "other", nil); err != nil {
				t.Error(err)
			}
		}
		return f.Sync()
	}
	if err := live.PutIfAbsent(ctx, "mine", []byte("v")); err != nil || puts != 1 {
		t.Fatalf("a live put lost its file to a sweep: %v, written %d times", err, puts)
	}
	if info, err := os.Stat(filepath.Join(root, "mine")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info, err)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) != 1 || left[0].Name() != "notes" {
		t.Errorf("left: %v, %v; want only what isn't ours", left, err)
	}
}

const crashRoot = "LOGCORE_DIR_CRASH_ROOT"

// TestMain is the child of TestCrash when the variable is set: it puts until it is killed.
func TestMain(m *testing.M) {
	root := os.Getenv(crashRoot)
	if root == "" {
		os.Exit(m.Run())
	}
	b, err := Open(root)
	for i := 0; err == nil; i++ {
		key := fmt.Sprintf("d%d/%d-%d", i%7, os.Getpid(), i)
		if err = b.PutIfAbsent(context.Background(), key, buckettest.Bytes(uint64(i), 200_000)); err == nil {
			fmt.Println(key)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Processes are killed in the middle of their puts: every object that is listed is
// whole, everything acknowledged is listed, and the leftovers go with the next put.
func TestCrash(t *testing.T) {
	b := fresh(t)
	acknowledged := 0
	for round := range 12 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashRoot+"="+b.root)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		scan := bufio.NewScanner(out)
		for len(keys) <= round%4 && scan.Scan() { // let it work
			keys = append(keys, scan.Text())
		}
		time.Sleep(rand.N(10 * time.Millisecond)) // and hit it anywhere
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for scan.Scan() { // what it had acknowledged until then
			keys = append(keys, scan.Text())
		}
		child.Wait() // killed
		for _, key := range keys {
			if _, err := b.Head(t.Context(), key); err != nil {
				t.Errorf("acknowledged, and lost: %v", err)
			}
			acknowledged++
		}
	}
	listed := 0
	err := b.List(t.Context(), "", "", func(a bucket.Attributes) bool {
		listed++
		var dir, pid, i int
		if _, err := fmt.Sscanf(a.Key, "d%d/%d-%d", &dir, &pid, &i); err != nil {
			t.Errorf("listed %s: %v", a.Key, err)
		}
		got, err := b.Get(t.Context(), a.Key, 0, -1)
		if err != nil || !bytes.Equal(got, buckettest.Bytes(uint64(i), 200_000)) {
			t.Errorf("%s: %d bytes that are not those put, %v", a.Key, len(got), err)
		}
		return true
	})
	if err != nil || listed < acknowledged || acknowledged < 3*(1+2+3+4) {
		t.Errorf("%d listed, %d acknowledged, %v", listed, acknowledged, err)
	}
	if err := b.PutIfAbsent(t.Context(), "next", nil); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(b.root, tempDir)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Logf("%d acknowledged, %d listed after 12 kills", acknowledged, listed)
}
