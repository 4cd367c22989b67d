#include "textflag.h"

// LINES runs one instruction for each cache line that [p, p+n) touches, then waits for
// all of them.
#define LINES(instruction) \
	MOVQ p+0(FP), AX     \
	MOVQ n+8(FP), CX     \
	ADDQ AX, CX          \
	ANDQ $~63, AX        \
line:                        \
	CMPQ AX, CX          \
	JCC  fence           \
	instruction (AX)     \
	ADDQ $64, AX         \
	JMP  line            \
fence:                       \
	SFENCE               \
	RET

// func clwb(p unsafe.Pointer, n uintptr)
TEXT ·clwb(SB), NOSPLIT, $0-16
	LINES(CLWB)

// func clflushopt(p unsafe.Pointer, n uintptr)
TEXT ·clflushopt(SB), NOSPLIT, $0-16
	LINES(CLFLUSHOPT)

// func clflush(p unsafe.Pointer, n uintptr)
TEXT ·clflush(SB), NOSPLIT, $0-16
	LINES(CLFLUSH)

// func cpuid(eax, ecx uint32) (a, b, c, d uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL eax+0(FP), AX
	MOVL ecx+4(FP), CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	MOVL CX, c+16(FP)
	MOVL DX, d+20(FP)
	RET
