package media_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

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
