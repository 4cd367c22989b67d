#include "textflag.h"

// func sumFrame(state uint32, frame []byte) uint32
TEXT ·sumFrame(SB), NOSPLIT, $0-36
	MOVL state+0(FP), AX
	MOVQ frame_base+8(FP), SI
	MOVQ frame_len+16(FP), CX
	NOTL AX
	CRC32Q (SI), AX
	CRC32Q 8(SI), AX
	CRC32Q 16(SI), AX
	CRC32Q 24(SI), AX
	CRC32L 36(SI), AX // bytes 32 to 35 are the checksum itself
	ADDQ $40, SI
	SUBQ $40, CX

four:
	CMPQ CX, $32
	JLT  one
	CRC32Q (SI), AX
	CRC32Q 8(SI), AX
	CRC32Q 16(SI), AX
	CRC32Q 24(SI), AX
	ADDQ $32, SI
	SUBQ $32, CX
	JMP  four

one:
	CMPQ CX, $8
	JLT  done
	CRC32Q (SI), AX
	ADDQ $8, SI
	SUBQ $8, CX
	JMP  one

done:
	NOTL AX
	MOVL AX, ret+32(FP)
	RET
