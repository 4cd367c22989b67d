// Package mediatest is the suite that every medium passes.
package mediatest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/logcore/logcore/hotlog/media"
)

// Run tests a medium. open returns an empty directory on it, or, with again, what
// was left in the last one, as a new process would find it.
func Run(t *testing.T, open func(t *testing.T, again bool) media.Dir) {
	t.Run("CreateIsZeroed", func(t *testing.T) { createIsZeroed(t, open(t, false)) })
	t.Run("WriteSyncReopen", func(t *testing.T) { writeSyncReopen(t, open) })
	t.Run("WriteSync", func(t *testing.T) { writeSync(t, open) })
	t.Run("Names", func(t *testing.T) { names(t, open(t, false)) })
	t.Run("Grow", func(t *testing.T) { grow(t, open(t, false)) })
	t.Run("Bounds", func(t *testing.T) { bounds(t, open(t, false)) })
	t.Run("ReadBesideWrite", func(t *testing.T) { readBesideWrite(t, open(t, false)) })
	t.Run("Free", func(t *testing.T) { free(t, open(t, false)) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, d media.Dir, name string, size int64) media.File {
	t.Helper()
	f, err := d.Create(name, size)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, f media.File, p []byte, off int64) {
	t.Helper()
	n, err := f.WriteAt(p, off)
	must(t, err)
	if n != len(p) {
		t.Fatalf("wrote %d of %d", n, len(p))
	}
}

func read(t *testing.T, f media.File, off int64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	got, err := f.ReadAt(p, off)
	if got != n {
		t.Fatalf("read %d of %d at %d: %v", got, n, off, err)
	}
	return p
}

func createIsZeroed(t *testing.T, d media.Dir) {
	const size = 3<<20 + 4096
	f := create(t, d, "a", size)
	if f.Size() != size {
		t.Fatalf("size %d, want %d", f.Size(), size)
	}
	if !bytes.Equal(read(t, f, 0, size), make([]byte, size)) {
		t.Fatal("a new file is not zero")
	}
	if _, err := d.Create("a", size); err == nil {
		t.Fatal("created the same name twice")
	}
}

func writeSyncReopen(t *testing.T, open func(t *testing.T, again bool) media.Dir) {
	d := open(t, false)
	f := create(t, d, "a", 256<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, f.Size())
	for range 200 {
		off := rng.Int64N(f.Size())
		p := make([]byte, rng.Int64N(min(20000, f.Size()-off)+1))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		write(t, f, p, off)
		copy(want[off:], p)
		if rng.IntN(10) == 0 {
			must(t, f.Sync())
		}
	}
	must(t, f.Sync())
	must(t, d.SyncDir())
	must(t, f.Close())
	g, err := open(t, true).Open("a")
	must(t, err)
	defer g.Close()
	if g.Size() != int64(len(want)) || !bytes.Equal(read(t, g, 0, len(want)), want) {
		t.Fatal("reopened file differs from what was written")
	}
}

// writeSync writes one to five ranges at once, mixed with plain writes, and compares
// what is read at once and after reopening.
func writeSync(t *testing.T, open func(t *testing.T, again bool) media.Dir) {
	d := open(t, false)
	align := int64(d.Align())
	if align < 8 || align > media.AlignMax || align&(align-1) != 0 {
		t.Fatalf("Align is %d", align)
	}
	const size = 4 << 20
	f := create(t, d, "a", size)
	rng := rand.New(rand.NewPCG(3, 4))
	want := make([]byte, size)
	memory := media.Buffer(2 << 20)
	for range 60 {
		var writes []media.Write
		off, used := rng.Int64N(size/2)&^(align-1), int64(0)
		for range 1 + rng.IntN(5) {
			n := (rng.Int64N(200<<10) + align) &^ (align - 1)
			p := memory[used : used+n]
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			writes = append(writes, media.Write{P: p, Off: off})
			copy(want[off:], p)
			used += n
			off += n + rng.Int64N(3)*align
		}
		must(t, f.WriteSync(writes))
		if !bytes.Equal(read(t, f, 0, size), want) {
			t.Fatal("read differs from what was written")
		}
		odd := rng.Int64N(size - 100)
		write(t, f, []byte("between"), odd)
		copy(want[odd:], "between")
	}
	must(t, f.WriteSync(nil))
	if f.WriteSync([]media.Write{{P: memory[:align], Off: -align}}) == nil {
		t.Fatal("wrote at a negative offset")
	}
	must(t, f.Sync())
	must(t, d.SyncDir())
	must(t, f.Close())
	g, err := open(t, true).Open("a")
	must(t, err)
	defer g.Close()
	if !bytes.Equal(read(t, g, 0, size), want) {
		t.Fatal("reopened file differs from what was written")
	}
}

func names(t *testing.T, d media.Dir) {
	for _, n := range []string{"b", "a", "c"} {
		create(t, d, n, 4096)
	}
	must(t, d.Rename("a", "z"))
	must(t, d.Remove("c"))
	must(t, d.SyncDir())
	got, err := d.List()
	must(t, err)
	if want := []string{"b", "z"}; !slices.Equal(got, want) {
		t.Fatalf("names %q, want %q", got, want)
	}
	if _, err := d.Open("a"); err == nil {
		t.Fatal("opened a renamed file under its old name")
	}
	if err := errors.Join(d.Remove("c")); err == nil {
		t.Fatal("removed a file twice")
	}
	if err := d.Rename("nothing", "x"); err == nil {
		t.Fatal("renamed a missing file")
	}
	if d.Path() == "" || d.Medium() == "" {
		t.Fatal("a medium must name itself and its place")
	}
}

func grow(t *testing.T, d media.Dir) {
	f := create(t, d, "a", 8192)
	write(t, f, bytes.Repeat([]byte{7}, 8192), 0)
	must(t, f.Grow(20000))
	must(t, f.Grow(4096)) // never shrinks
	if f.Size() != 20000 {
		t.Fatalf("size %d, want 20000", f.Size())
	}
	if !bytes.Equal(read(t, f, 0, 8192), bytes.Repeat([]byte{7}, 8192)) || !bytes.Equal(read(t, f, 8192, 20000-8192), make([]byte, 20000-8192)) {
		t.Fatal("content after Grow")
	}
	write(t, f, []byte("end"), 19997)
	must(t, f.Sync())
}

func bounds(t *testing.T, d media.Dir) {
	f := create(t, d, "a", 8192)
	p := make([]byte, 100)
	if n, err := f.ReadAt(p, 8192); n != 0 || err == nil {
		t.Fatalf("read at the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(p, 8150); n != 42 || err == nil {
		t.Fatalf("read across the end: %d, %v; want 42 bytes and an error", n, err)
	}
	if _, err := f.WriteAt(p, -1); err == nil {
		t.Fatal("wrote at a negative offset")
	}
}

func readBesideWrite(t *testing.T, d media.Dir) {
	f := create(t, d, "a", 128<<10)
	want := bytes.Repeat([]byte{9}, 4096)
	write(t, f, want, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p := make([]byte, 4096)
			for range 200 {
				if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, want) {
					t.Errorf("read beside a write: %v", err)
					return
				}
			}
		})
	}
	for i := range 31 {
		write(t, f, bytes.Repeat([]byte{byte(i)}, 4096), int64(i+1)*4096)
		must(t, f.Sync())
	}
	wg.Wait()
}

func free(t *testing.T, d media.Dir) {
	n, err := d.Free()
	must(t, err)
	if n <= 0 {
		t.Fatalf("%d bytes free", n)
	}
}
