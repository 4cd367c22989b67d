package media

import "unsafe"

// cacheLineBytes is checked at start against what the processor says.
const cacheLineBytes = 64

// The instructions that write a cache line back, the best first. CLWB keeps the line in
// the cache; CLFLUSHOPT and CLFLUSH evict it; the last one waits for each line. The
// assembly ends with an SFENCE: on return every line has reached the persistence domain.
var instructions = []struct {
	name string
	has  func() bool
	run  func(p unsafe.Pointer, n uintptr)
}{
	{"CLWB", func() bool { return leaf7EBX()&(1<<24) != 0 }, clwb},
	{"CLFLUSHOPT", func() bool { return leaf7EBX()&(1<<23) != 0 }, clflushopt},
	{"CLFLUSH", func() bool { return leaf1EDX()&(1<<19) != 0 }, clflush},
}

// chosen is the index of the instruction in use, -1 when there is none.
var chosen = choose()

func choose() int {
	_, ebx, _, _ := cpuid(1, 0)
	if ebx>>8&0xff*8 != cacheLineBytes {
		return -1
	}
	for i := range instructions {
		if instructions[i].has() {
			return i
		}
	}
	return -1
}

func leaf1EDX() uint32 { _, _, _, edx := cpuid(1, 0); return edx }

func leaf7EBX() uint32 {
	if most, _, _, _ := cpuid(0, 0); most < 7 {
		return 0
	}
	_, ebx, _, _ := cpuid(7, 0)
	return ebx
}

// canWriteBack reports whether writeBackLines works on this processor.
func canWriteBack() bool { return chosen >= 0 }

// writeBackInstruction names what writeBackLines uses.
func writeBackInstruction() string {
	if chosen < 0 {
		return "none"
	}
	return instructions[chosen].name
}

// writeBackLines writes the cache lines of b back to memory and waits for them.
func writeBackLines(b []byte) {
	if len(b) > 0 {
		instructions[chosen].run(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)))
	}
}

//go:noescape
func clwb(p unsafe.Pointer, n uintptr)

//go:noescape
func clflushopt(p unsafe.Pointer, n uintptr)

//go:noescape
func clflush(p unsafe.Pointer, n uintptr)

func cpuid(eax, ecx uint32) (a, b, c, d uint32)
