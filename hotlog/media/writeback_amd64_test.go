package media

import (
	"bytes"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// touches reports whether the instruction reaches a page that can't be accessed.
func touches(run func(unsafe.Pointer, uintptr), b []byte) (touched bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { touched = recover() != nil }()
	run(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
	return false
}

// Each instruction that the processor has covers exactly the lines of its range: with a
// page in front and one behind that must not be touched, it faults if and only if the
// range has a byte in one of them. What it covers does not change.
func TestWriteBackCoversItsRange(t *testing.T) {
	const page = 4096
	mem, err := unix.Mmap(-1, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	for i := range mem {
		mem[i] = byte(i * 7)
	}
	want := bytes.Clone(mem[page : 3*page])
	for _, guard := range [][]byte{mem[:page], mem[3*page:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	ran := 0
	for _, in := range instructions {
		if !in.has() {
			t.Logf("this processor has no %s", in.name)
			continue
		}
		ran++
		for _, from := range []int{page - 1, page, page + 1, page + 63, page + 64, 2*page - 1, 3*page - 65, 3*page - 64, 3*page - 1} {
			for _, n := range []int{1, 2, 63, 64, 65, 128, page - 1, page, page + 1, 3*page - from, 3*page - from + 1} {
				if n < 1 || from+n > 4*page {
					continue
				}
				outside := from < page || from+n > 3*page
				if got := touches(in.run, mem[from:from+n]); got != outside {
					t.Errorf("%s of [%d, %d): touched a page outside: %v, want %v", in.name, from-page, from-page+n, got, outside)
				}
			}
		}
	}
	if ran == 0 || chosen < 0 || !instructions[chosen].has() {
		t.Errorf("%d instructions; chosen %d", ran, chosen)
	}
	if !bytes.Equal(mem[page:3*page], want) {
		t.Error("memory changed")
	}
	t.Logf("%d of %d instructions; the best is %s", ran, len(instructions), writeBackInstruction())
}
