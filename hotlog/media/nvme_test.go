package media_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/media/mediatest"
)

// direct skips nothing: where the test's own directory has no direct writes, OpenNVMe
// must say so in the agreed way, and that is what is tested.
func direct(t *testing.T, dir string) (media.Dir, bool) {
	t.Helper()
	d, err := media.OpenNVMe(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Logf("%s has no direct writes: %v", dir, err)
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return d, true
}

func TestNVMe(t *testing.T) {
	if _, ok := direct(t, t.TempDir()); !ok {
		return
	}
	var last string
	mediatest.Run(t, func(t *testing.T, again bool) media.Dir {
		if !again {
			last = t.TempDir()
		}
		d, err := media.OpenNVMe(last)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// The probe leaves nothing behind, and a file system without files of its own, which
// can't have direct writes, is refused in the way that callers fall back on.
func TestNVMeProbe(t *testing.T) {
	dir := t.TempDir()
	direct(t, dir)
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Fatalf("left behind: %v, %v", list, err)
	}
	if _, err := media.OpenNVMe(dir + "/missing"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing directory: %v", err)
	}
}

// Reads beside direct writes of the same block see the bytes that don't change, and
// after the write all of it: what a log's tail block goes through.
func TestNVMeTailBlockRewritten(t *testing.T) {
	d, ok := direct(t, t.TempDir())
	if !ok {
		return
	}
	f, err := d.Create("a", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const block = media.AlignMax
	memory := media.Buffer(block)
	durable := make(chan int, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		p := make([]byte, block)
		for n := range durable {
			if _, err := f.ReadAt(p[:n], 0); err != nil {
				t.Error(err)
				return
			}
			for i, b := range p[:n] {
				if b != byte(i/8)|1 {
					t.Errorf("byte %d of %d durable ones is %d", i, n, b)
					return
				}
			}
		}
	})
	for n := 8; n <= block; n += 8 {
		for i := n - 8; i < n; i++ {
			memory[i] = byte(i/8) | 1
		}
		if err := f.WriteSync([]media.Write{{P: memory, Off: 0}}); err != nil {
			t.Fatal(err)
		}
		select {
		case durable <- n:
		default: // still at an earlier one, beside this write
		}
	}
	close(durable)
	wg.Wait()
}

// What fails in a lane fails the call, and a range that can't be written is refused
// before any is.
func TestNVMeErrors(t *testing.T) {
	d, ok := direct(t, t.TempDir())
	if !ok {
		return
	}
	f, err := d.Create("a", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	memory := media.Buffer(4 * media.AlignMax)
	part := func(i int) []byte { return memory[i*media.AlignMax : (i+1)*media.AlignMax] }
	writes := []media.Write{{P: part(0), Off: 0}, {P: part(1), Off: 8192}, {P: part(2), Off: 16384}}
	for _, bad := range []media.Write{{P: part(3), Off: 8}, {P: part(3)[:8], Off: 0}, {P: memory[8 : 8+media.AlignMax], Off: 0}, {P: memory, Off: 1<<20 - 8192}} {
		if err := f.WriteSync(append(writes[:2:2], bad)); err == nil {
			t.Errorf("wrote %d bytes at %d", len(bad.P), bad.Off)
		}
	}
	if err := f.WriteSync(writes); err != nil {
		t.Fatal(err)
	}
	media.BreakDirect(t, f)
	for n := 1; n <= 3; n++ {
		if err := f.WriteSync(writes[:n]); !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), "direct write") {
			t.Errorf("%d writes to a broken descriptor: %v", n, err)
		}
	}
}

// What is read directly is what was written in any way, and stays nowhere in the page
// cache; what is read otherwise does.
func TestNVMeOpenDirect(t *testing.T) {
	path := t.TempDir()
	d, ok := direct(t, path)
	if !ok {
		return
	}
	const size = 1 << 20
	f, err := d.Create("f", size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks := media.Buffer(2 * media.AlignMax)
	for i := range blocks {
		blocks[i] = byte(i * 7)
	}
	if err := f.WriteSync([]media.Write{{P: blocks, Off: 8 * media.AlignMax}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("through the cache"), 9*media.AlignMax+5); err != nil {
		t.Fatal(err)
	}
	copy(blocks[media.AlignMax+5:], "through the cache")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	advise := func() {
		o, err := os.Open(path + "/f")
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if err := unix.Fadvise(int(o.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
	}
	advise()
	r, err := d.(media.DirectOpener).OpenDirect("f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := media.Buffer(size)
	if n, err := r.ReadAt(got, 0); n != size || err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	want := make([]byte, size)
	copy(want[8*media.AlignMax:], blocks)
	if !bytes.Equal(got, want) {
		t.Fatal("read something else than was written")
	}
	if n := cached(t, path+"/f", size); n != 0 {
		t.Fatalf("%d pages are in the page cache after a direct read", n)
	}
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if n := cached(t, path+"/f", size); n == 0 {
		t.Fatal("no page is in the page cache after an ordinary read: this test sees nothing")
	}
	if _, err := d.(media.DirectOpener).OpenDirect("missing"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing file: %v", err)
	}
}

// cached returns how many pages of a file are in the page cache.
func cached(t *testing.T, path string, size int) (pages int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	in := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&in[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, b := range in {
		pages += int(b & 1)
	}
	return pages
}
